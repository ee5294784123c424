"""What is done once for all processes: before the first begins, after the last old one ended."""

from __future__ import annotations

from enum import StrEnum

from tenfold.runtimes.topology import Product

__all__ = ["Phase", "prepare"]


class Phase(StrEnum):
    """When: before the first process of this version begins, or after the last old one ended."""

    BEFORE = "before"
    AFTER = "after"


async def prepare(product: Product, phase: Phase) -> str:
    """Do one phase, in a process of its own that runs the new code and ends with it.

    Returns: what was done, for the log; empty where there was nothing to do.
    Raises: TenfoldError where it cannot be done; no process of this version begins then.
    """
    return ""
