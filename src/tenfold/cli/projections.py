"""`tenfold projections`: see read models, and rebuild them while they serve."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from tenfold.cli.options import Data, Json, ProductFolder, TopologyName, at_desk, source
from tenfold.cli.show import print_json, print_table
from tenfold.contracts.errors import UserMistakeError
from tenfold.path.projection import RebuildFailedError
from tenfold.runtimes.desk import Desk, ProjectionStatus

__all__ = ["app"]

app = typer.Typer(
    help="See read models, and rebuild them while they serve.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_LOOK_S = 0.2
_STALLED_S = 5.0


@app.command("list")
def list_projections(
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Every projection, its generation, and how far behind it is."""
    found = at_desk(
        source(product, topology, data), "projections list", lambda desk: desk.projections()
    )
    if json:
        print_json(found)
        return
    print_table(
        ["projection", "generation", "building", "behind"],
        [(f"{p.module}.{p.name}", p.active, p.building, p.behind) for p in found],
        numbers=["generation", "building", "behind"],
    )


@app.command("rebuild")
def rebuild(
    projection: Annotated[str, typer.Argument(metavar="MODULE.NAME")],
    anew: Annotated[
        bool, typer.Option("--anew", help="Drop what an unfinished rebuild has built so far.")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Build it from what is left of a trimmed log.")
    ] = False,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Build a projection anew from all events; the old one answers until it has caught up."""
    module, dot, name = projection.partition(".")
    if not (module and dot and name):
        raise UserMistakeError(
            f"{projection!r} names no projection. Write it as `module.name`, as `tenfold "
            "projections list` prints it."
        )

    async def work(desk: Desk) -> ProjectionStatus:
        await desk.rebuild_projection(module, name, anew, partial)
        return await _watch(desk, module, name, quiet=json)

    # The queue carries a rebuild, so where nobody runs the product, this command does meanwhile.
    done = at_desk(source(product, topology, data), "projections rebuild", work, background=True)
    if json:
        print_json(done)
    else:
        print(f"{projection} answers from generation {done.active}.")


async def _watch(desk: Desk, module: str, name: str, *, quiet: bool) -> ProjectionStatus:
    """Wait until nothing is being built any more, with a bar for people."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("rebuilding {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[behind]} events behind"),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        disable=quiet or not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task(f"{module}.{name}", total=None, behind="?")
        most, behind, unmoved_s = 0, -1, 0.0
        while True:
            status = next(
                p for p in await desk.projections() if (p.module, p.name) == (module, name)
            )
            if status.building is None:
                return status
            unmoved_s = unmoved_s + _LOOK_S if status.behind == behind else 0.0
            behind = status.behind
            if unmoved_s >= _STALLED_S:
                await _refuse_dead(desk, module, name)
                unmoved_s = 0.0
            most = max(most, status.behind)
            bar.update(task, total=most or None, completed=most - status.behind)
            bar.update(task, behind=f"{status.behind}{'+' if status.behind >= 1000 else ''}")
            # It may be built in another process, which can only be looked at.
            await asyncio.sleep(_LOOK_S)


async def _refuse_dead(desk: Desk, module: str, name: str) -> None:
    """A rebuild that does not move may be held by a dead letter, which nobody mends but people."""
    for entry in await desk.queue_entries(module, "dead"):
        if entry.handler.startswith(f"{name}."):
            raise RebuildFailedError(
                f"The rebuild of {module}.{name} is held by the dead letter {entry.ref}: "
                f"{entry.last_error}. The old generation goes on answering. Mend its handler, "
                f"`tenfold queue retry {entry.ref}`, and rebuild again."
            )
