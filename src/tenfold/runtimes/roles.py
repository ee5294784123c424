"""What a process of a product is there for."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Role"]


class Role(StrEnum):
    """Which part of a product's work one process does."""

    ALL = "all"
    """Everything: the one process of the prototype, and a command that finds nobody else."""
    WEB = "web"
    """Calls from outside; what they set off is for the workers."""
    WORKER = "worker"
    """Background work."""
    LOOK = "look"
    """Nothing but what is asked: no module's `started` is called, and nothing runs by itself."""

    @property
    def works(self) -> bool:
        """Whether it does background work."""
        return self in (Role.ALL, Role.WORKER)
