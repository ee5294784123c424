"""Migrations of a whole product: what is applied, what would be, and applying it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tenfold.contracts.structs import Struct
from tenfold.runtimes.linting import decide_refusal, lint_module
from tenfold.runtimes.reflection import ModuleShape, read_module
from tenfold.runtimes.topology import Product
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.errors import MigrationRefusedError
from tenfold.tables.lint import Finding
from tenfold.tables.rendering import Rendered
from tenfold.tables.revisions import (
    PHASES,
    Phase,
    backfill_of,
    is_ahead,
    mistakes,
    phase_of,
    read_script,
    steps_from,
    told,
)

if TYPE_CHECKING:
    from tenfold.adapters.postgres.migrate import MigrationLimits

__all__ = [
    "Hearer",
    "MigrationPlan",
    "ModuleStatus",
    "PendingStep",
    "migrate_modules",
    "plan_of",
    "status_of",
]


class PendingStep(Struct):
    """A revision that is not applied yet."""

    revision: str
    told: str
    phase: Phase
    backfill: bool


class ModuleStatus(Struct):
    """How far one module's migrations are. `at` is empty before the first.

    `ahead` where it is at a revision that this code does not have.
    """

    module: str
    at: str
    ahead: bool
    pending: list[PendingStep]
    backfills: list[BackfillProgress]


class MigrationPlan(Struct):
    """What would be applied, in order, as SQL, and what is wrong with it."""

    steps: list[Rendered]
    findings: list[Finding]
    waiting: list[PendingStep]
    """What stays pending: revisions of the other phase, and those behind them."""


class Hearer:
    """Who is told what is being done. Says nothing by itself."""

    def step(self, module: str, step: str) -> None:
        """A revision is about to be applied."""

    def batch(self, module: str, progress: BackfillProgress) -> None:
        """A batch of a backfill has been committed."""


async def status_of(product: Product) -> list[ModuleStatus]:
    """How far each module with migrations is. Changes nothing.

    Raises: MigrationError (NOT_DONE); StoreUnavailableError.
    """
    found = []
    for name, folder in _folders(product):
        heads, backfills = await _state(product, name)
        left = _left(name, folder, heads, ahead_ok=True)
        pending = {step.revision for step in left or []}
        found.append(
            ModuleStatus(
                module=name,
                at=", ".join(heads),
                ahead=left is None,
                pending=left or [],
                backfills=[b for b in backfills if not b.ended or b.revision in pending],
            )
        )
    return found


async def plan_of(
    product: Product, phases: Sequence[Phase], *, ahead_ok: bool = False
) -> MigrationPlan:
    """What `migrate_modules` would apply. Changes nothing.

    A schema that has no revision yet gets all phases, and no findings: nobody
    uses its tables.
    """
    steps: list[Rendered] = []
    findings: list[Finding] = []
    waiting: list[PendingStep] = []
    for name, folder in _folders(product):
        heads, _ = await _state(product, name)
        left = _left(name, folder, heads, ahead_ok=ahead_ok)
        if not left:
            continue
        wanted = _wanted(left, phases if heads else PHASES)
        only = frozenset(step.revision for step in wanted)
        waiting += [step for step in left if step.revision not in only]
        rendered, wrong = lint_module(
            name, folder, postgres=product.topology.shared, only=only if heads else frozenset()
        )
        steps += [each for each in rendered if each.revision in only]
        findings += wrong
    return MigrationPlan(steps=steps, findings=findings, waiting=waiting)


async def migrate_modules(
    product: Product,
    phases: Sequence[Phase] = PHASES,
    hearer: Hearer | None = None,
    limits: MigrationLimits | None = None,
    *,
    ahead_ok: bool = False,
) -> list[tuple[str, str]]:
    """Apply what is pending in every module. SQLite's files must be locked by the caller.

    Args:
        phases: PostgreSQL only; a file has one process, and gets all.
        limits: PostgreSQL only.
        ahead_ok: PostgreSQL only: pass over a module whose schema newer code has migrated.
    Returns: module and revision of what was applied, in order.
    Raises: MigrationError (NOT_DONE) for the revision it names, those before it
        stay; MigrationRefusedError where a revision would break the code that runs;
        StoreUnavailableError.
    """
    hearer = hearer or Hearer()
    applied: list[tuple[str, str]] = []
    if product.topology.shared:
        plan = await plan_of(product, phases, ahead_ok=ahead_ok)
        refusal = decide_refusal(plan.findings)
        if refusal:
            raise MigrationRefusedError(refusal)
    for name, folder in _folders(product):
        on_step, on_batch = partial(hearer.step, name), partial(hearer.batch, name)
        if product.topology.shared:
            from tenfold.adapters.postgres.migrate import migrate as migrate_schema

            done = await migrate_schema(
                product.topology.database.session_url,
                name,
                folder,
                on_step,
                phases=phases,
                limits=limits,
                on_batch=on_batch,
                ahead_ok=ahead_ok,
            )
        else:
            from tenfold.adapters.sqlite.migrate import migrate as migrate_file

            done = migrate_file(_file(product, name), name, folder, on_step, on_batch)
        applied += [(name, step) for step in done]
    return applied


def shapes(product: Product) -> list[ModuleShape]:
    """Every module, read."""
    return [read_module(name, cls) for name, cls in product.modules.items()]


def _folders(product: Product) -> list[tuple[str, Path]]:
    return [(s.name, s.migrations) for s in shapes(product) if s.migrations is not None]


def _file(product: Product, module: str) -> Path:
    return product.data_dir / f"{module}.db"


async def _state(product: Product, module: str) -> tuple[tuple[str, ...], list[BackfillProgress]]:
    """The revision that a module is at, and how far its backfills are."""
    if product.topology.shared:
        from tenfold.adapters.postgres.migrate import read_state

        return await read_state(product.topology.database.session_url, module)
    from tenfold.adapters.sqlite.backfill import read_backfills
    from tenfold.adapters.sqlite.migrate import read_heads

    file = _file(product, module)
    return read_heads(file), read_backfills(file)


def _left(
    module: str, folder: Path, heads: tuple[str, ...], *, ahead_ok: bool
) -> list[PendingStep] | None:
    """What is not applied yet; None where the database is ahead of the folder and may be."""
    script = read_script(module, folder)
    if ahead_ok and is_ahead(script, heads):
        return None
    with mistakes(module, str(folder)):
        return [
            PendingStep(
                revision=str(step.revision.revision),
                told=told(step.revision),
                phase=phase_of(step.revision),
                backfill=backfill_of(step.revision) is not None,
            )
            for step in steps_from(script, heads)
        ]


def _wanted(left: list[PendingStep], phases: Sequence[Phase]) -> list[PendingStep]:
    wanted = []
    for step in left:
        if step.phase not in phases:
            break
        wanted.append(step)
    return wanted
