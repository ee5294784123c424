"""`tenfold migrate`: how far each module's database is, what would be applied, and applying it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal

import typer

from tenfold.cli.options import Data, Json, ProductFolder, TopologyName, source
from tenfold.cli.show import print_json, print_table
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.migrations import (
    Hearer,
    MigrationPlan,
    migrate_modules,
    plan_of,
    status_of,
)
from tenfold.runtimes.resources import with_resources
from tenfold.runtimes.topology import Product, import_product
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.lint import Finding
from tenfold.tables.revisions import PHASES, Phase

__all__ = ["app"]

app = typer.Typer(help="See, check and apply migrations.", rich_markup_mode=None)
PhaseName = Annotated[
    Literal["before", "after", "all"] | None,
    typer.Option(
        "--phase",
        help="before: what new code needs. after: what old code needed, with the backfills, once "
        "none of it runs. PostgreSQL: before, if not said; SQLite: always all.",
    ),
]


@app.callback(invoke_without_command=True)
def migrate(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be applied.")
    ] = False,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """See, check and apply migrations; without a further word, apply them as `up` does."""
    if context.invoked_subcommand is not None:
        if dry_run or json or product or topology or data:
            raise UserMistakeError(
                f"An option stands before `{context.invoked_subcommand}`. Nothing was done. Write "
                f"it behind: tenfold migrate {context.invoked_subcommand} …"
            )
        return
    with _resourced(product, topology, data) as loaded:
        if dry_run:
            plan = asyncio.run(plan_of(loaded, _phases(loaded, None)))
            steps = [(step.module, step.told) for step in plan.steps]
            if json:
                print_json([{"module": m, "migration": s} for m, s in steps])
            elif steps:
                print_table(["module", "migration"], steps)
            else:
                print("Nothing to do.")
            return
        _up(loaded, None, json=json)


@app.command("status")
def status(
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """The revision that each module is at, what is pending, and how far backfills are."""
    with _resourced(product, topology, data) as loaded:
        found = asyncio.run(status_of(loaded))
    if json:
        print_json(found)
        return
    rows = []
    for each in found:
        said = "" if each.pending else "up to date"
        said = "ahead of this code" if each.ahead else said
        rows.append([each.module, each.at or "nothing", said])
        for step in each.pending:
            kind = f"{step.phase}, backfill" if step.backfill else step.phase
            rows.append(["", "", f"pending ({kind}): {step.told}"])
        rows += [["", "", f"backfill {progress.said}"] for progress in each.backfills]
    print_table(["module", "at", ""], rows)


@app.command("plan")
def plan(
    phase: PhaseName = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """What `up` would apply, in order, as SQL, and what is wrong with it; exit code 1 on errors."""
    with _resourced(product, topology, data) as loaded:
        found = asyncio.run(plan_of(loaded, _phases(loaded, phase)))
    if json:
        print_json(found)
    else:
        _print_plan(found)
    _exit_on_errors(found.findings)


@app.command("up")
def up(
    phase: PhaseName = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Apply what is pending: on PostgreSQL while the product runs, on SQLite while it does not."""
    with _resourced(product, topology, data) as loaded:
        _up(loaded, phase, json=json)


@app.command("verify")
def verify(
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Compare the databases with the declared tables; exit code 1 where they differ."""
    from tenfold.runtimes.verifying import verify_product

    with _resourced(product, topology, data) as loaded:
        drifts = asyncio.run(verify_product(loaded))
        pending = [s for s in asyncio.run(status_of(loaded)) if s.pending]
    if json:
        print_json(drifts)
    else:
        for module in dict.fromkeys(drift.module for drift in drifts):
            print(f"{module}: - declared, + in the database")
            for drift in drifts:
                if drift.module == module:
                    print(drift.said)
        for each in pending:
            print(f"{each.module}: pending: {', '.join(step.told for step in each.pending)}")
        if not drifts:
            print("The databases have what the modules declare.")
    if drifts:
        raise typer.Exit(1)


@app.command("lint")
def lint(
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
) -> None:
    """What is wrong with revisions on PostgreSQL, all of them, without a database; for CI."""
    from tenfold.runtimes.linting import lint_module
    from tenfold.runtimes.migrations import shapes

    loaded = import_product(source(product, topology, None))
    found: list[Finding] = []
    for shape in shapes(loaded):
        if shape.migrations is not None:
            found += lint_module(shape.name, shape.migrations, postgres=True)[1]
    if json:
        print_json(found)
    else:
        for finding in found:
            print(finding.said)
        print(f"{len(found)} found." if found else "Nothing found.")
    _exit_on_errors(found)


@contextmanager
def _resourced(product: ProductFolder, topology: TopologyName, data: Data) -> Iterator[Product]:
    """The product, with its servers."""
    found = source(product, topology, data)
    with with_resources(import_product(found)) as loaded:
        yield loaded


def _phases(product: Product, phase: str | None) -> Sequence[Phase]:
    if not product.topology.shared:
        if phase not in (None, "all"):
            raise UserMistakeError(
                f"--phase {phase} is for databases that several processes share. Nothing was done. "
                f"The topology {product.topology.name!r} keeps its data in SQLite, and one process "
                "has them: leave it out."
            )
        return PHASES
    if phase == "all":
        return PHASES
    return ("after",) if phase == "after" else ("before",)


def _up(product: Product, phase: str | None, *, json: bool) -> None:
    phases = _phases(product, phase)
    hearer = _Silent() if json else _Printing()
    with _locked(product):
        steps = asyncio.run(migrate_modules(product, phases, hearer))
        left = asyncio.run(status_of(product))
    if json:
        print_json([{"module": m, "migration": s} for m, s in steps])
        return
    print(f"{len(steps)} applied." if steps else "Nothing to do.")
    for each in left:
        for step in each.pending:
            print(f"{each.module}: pending ({step.phase}): {step.told}")


@contextmanager
def _locked(product: Product) -> Iterator[None]:
    """Nobody else may have SQLite's files."""
    if product.topology.shared:
        yield
        return
    lock = DataLock.acquire(product.data_dir, "tenfold migrate")
    try:
        yield
    finally:
        lock.release()


class _Silent(Hearer):
    """Says nothing."""


class _Printing(Hearer):
    """Prints each step, and on a terminal how far a backfill is."""

    def step(self, module: str, step: str) -> None:
        """A line."""
        print(module, step, flush=True)

    def batch(self, module: str, progress: BackfillProgress) -> None:
        """The same line again and again; where there is no terminal only its end."""
        if sys.stdout.isatty():
            print(f"\r\x1b[K{module} {progress.said}", end="\n" if progress.ended else "")
            sys.stdout.flush()
        elif progress.ended:
            print(module, progress.said, flush=True)


def _print_plan(found: MigrationPlan) -> None:
    for step in found.steps:
        alone = "" if step.transactional else ", each statement by itself"
        print(f"-- {step.module} {step.told} ({step.phase}{alone})")
        if step.backfill is not None:
            fill = step.backfill
            columns = ", ".join(fill.values)
            print(f"-- backfill: {columns} of {fill.table}, {fill.batch:,} rows at once")
        for statement in step.statements:
            print(f"{statement.sql};")
        if step.failure:
            print(f"-- cannot be written as SQL: {step.failure}")
        print()
    if not found.steps:
        print("Nothing to do.")
    for waiting in found.waiting:
        print(f"-- stays pending ({waiting.phase}): {waiting.told}")
    for finding in found.findings:
        print(finding.said)


def _exit_on_errors(findings: Sequence[Finding]) -> None:
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
