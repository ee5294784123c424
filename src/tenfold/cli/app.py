"""The commands of `tenfold` but `run`, on Typer."""

from __future__ import annotations

from typing import Annotated

import typer

from tenfold.cli import export, migrate, processes, projections, queue, topology
from tenfold.cli.move import move
from tenfold.cli.options import Json, ProductFolder, TopologyName, source
from tenfold.cli.show import print_json, print_table
from tenfold.cli.split import split
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.topology import import_product

__all__ = ["run_app"]

app = typer.Typer(
    name="tenfold",
    help="Tenfold: write a product once, as modules with typed contracts; run it at any size.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(queue.app, name="queue")
app.add_typer(projections.app, name="projections")
app.add_typer(migrate.app, name="migrate")
app.add_typer(export.app, name="export")
app.add_typer(topology.app, name="topology")
app.command("move")(move)
app.command("restart")(processes.restart)
app.command("processes")(processes.processes)
app.command("split")(split)


def run_app(arguments: list[str]) -> int:
    """Run one command; returns the exit code. What it raises is for `entry.report`."""
    try:
        app(arguments, prog_name="tenfold")
    except SystemExit as done:  # Typer's way to end, after it has told what was typed wrong
        return done.code if isinstance(done.code, int) else 0
    return 0


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of whatever goes wrong.")
    ] = False,
) -> None:
    """Tenfold: write a product once, as modules with typed contracts; run it at any size."""


@app.command(
    "run",
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def run_product(context: typer.Context) -> None:
    """Start a product and serve it over HTTP (see `tenfold run --help`)."""
    from tenfold.cli.run import run

    raise typer.Exit(run(context.args))


@app.command("routes")
def routes(
    json: Json = False, product: ProductFolder = None, topology: TopologyName = None
) -> None:
    """Every operation: its route, who may call it, what it is."""
    from tenfold.contracts.contract import read_contract
    from tenfold.runtimes.reflection import contract_of

    loaded = import_product(source(product, topology, None))
    rows = [
        {
            "method": operation.declaration.method,
            "path": operation.declaration.path,
            "operation": f"{module}.{operation.name}",
            "kind": operation.kind.value,
            "who": operation.declaration.who,
        }
        for module, cls in loaded.modules.items()
        for operation in read_contract(contract_of(cls)).operations.values()
    ]
    if not rows:
        raise UserMistakeError(f"The modules of {loaded.name} offer no operations.")
    if json:
        print_json(rows)
        return
    columns = ["method", "path", "operation", "kind", "who"]
    print_table(columns, [[row[column] for column in columns] for row in rows])
