"""The functions in a module's schema that take a turn at its queue."""

from __future__ import annotations

__all__ = ["functions"]


def functions(schema: str, lock: int) -> list[str]:
    """The statements that make them. `schema` is quoted; `lock` is the queue's advisory lock."""
    return []
