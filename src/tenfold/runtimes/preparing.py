"""What is done once for all processes: before the first begins, after the last old one ended.

Migrations are split by it. What new code needs is there before it begins, while
the code of before still runs on it; what only the code of before needed goes
when its last process has ended. The seed runs in between, by a process of the
new code that serves nobody.

A supervisor sees its own machine alone. Where the topology names several, what is
to follow the last old process is left to people, who know when the last machine is new.
"""

from __future__ import annotations

from enum import StrEnum

from tenfold.runtimes.migrations import migrate_modules, status_of
from tenfold.runtimes.process import hosted
from tenfold.runtimes.roles import Role
from tenfold.runtimes.topology import Product

__all__ = ["Phase", "prepare"]

_SHARE = 0.5
"""Of the time that a process has to begin: what waiting for tables, and what backfills may take."""


class Phase(StrEnum):
    """When: before the first process of this version begins, or after the last old one ended."""

    BEFORE = "before"
    AFTER = "after"


async def prepare(product: Product, phase: Phase) -> str:
    """Do one phase, in a process of its own that runs the new code and ends with it.

    A backfill that takes longer than half the time that a process has to start
    stops between two batches, and the revisions behind it wait: the sentence
    says so, and `tenfold migrate up --phase after` goes on with it.

    Returns: what was done, for the log; empty where there was nothing to do.
    Raises: TenfoldError where it cannot be done; no process of this version begins then.
    """
    if not product.topology.shared or not product.modules:
        return ""
    from tenfold.adapters.postgres.migrate import MigrationLimits
    from tenfold.runtimes.moving.arrival import is_arriving

    if phase is Phase.BEFORE and await is_arriving(product.topology.database.session_url):
        return "The data is being moved here, migrated and seeded: the processes wait for it."
    bound_s = product.topology.processes.start_timeout_s * _SHARE
    limits = MigrationLimits(retry_s=bound_s, backfill_s=bound_s)
    if phase is Phase.BEFORE:
        said = _said(await migrate_modules(product, ("before",), limits=limits, ahead_ok=True))
        if product.seed is not None:
            async with hosted(product, Role.WEB, seed=True):
                pass
        return said
    if len(product.topology.balancer.servers) > 1:
        return await _left_to_people(product)
    said = _said(await migrate_modules(product, limits=limits, ahead_ok=True))
    return " ".join(filter(None, [said, await _unfinished(product)]))


async def _left_to_people(product: Product) -> str:
    """What waits because this machine cannot know which code the others run."""
    left = [
        f"{status.module} {step.told.rstrip('.')}"
        for status in await status_of(product)
        for step in status.pending
    ]
    if not left:
        return ""
    return (
        f"Not applied yet, since other machines may run the code of before: {', '.join(left)}. "
        "Run `tenfold migrate up --phase after` once none of them does."
    )


async def _unfinished(product: Product) -> str:
    left = [
        f"{status.module} {progress.said}"
        for status in await status_of(product)
        for progress in status.backfills
        if not progress.ended
    ]
    if not left:
        return ""
    return (
        f"Not finished yet: the backfill {'; '.join(left)}. What stands behind it waits. Run "
        "`tenfold migrate up --phase after` to go on with it."
    )


def _said(applied: list[tuple[str, str]]) -> str:
    if not applied:
        return ""
    steps = ", ".join(f"{module} {step.rstrip('.')}" for module, step in applied)
    return f"{len(applied)} {'migration' if len(applied) == 1 else 'migrations'}: {steps}."
