"""`tenfold export`: files for the programs around a product, written from its topology file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import ProductFolder, TopologyName, source
from tenfold.contracts.errors import UserMistakeError

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Files for the programs around a product: balancers, containers."
)
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to; standard output if not.")
]


@app.command("nginx")
def nginx(
    out: Out = None,
    run_dir: Annotated[
        str, typer.Option("--run-dir", metavar="DIR", help="Where nginx may write.")
    ] = "/tmp",
    product: ProductFolder = None,
    topology: TopologyName = None,
) -> None:
    """A configuration of nginx that balances over the servers of a topology."""
    from tenfold.runtimes.balancers.nginx import render_nginx
    from tenfold.runtimes.balancers.plan import decide_balancer

    found = source(product, topology, None)
    plan = decide_balancer(found.name, found.topology.balancer, found.topology.http)
    _write(render_nginx(plan, run_dir=run_dir), out)


@app.command("haproxy")
def haproxy(out: Out = None, product: ProductFolder = None, topology: TopologyName = None) -> None:
    """A configuration of HAProxy that balances over the servers of a topology."""
    from tenfold.runtimes.balancers.haproxy import render_haproxy
    from tenfold.runtimes.balancers.plan import decide_balancer

    found = source(product, topology, None)
    plan = decide_balancer(found.name, found.topology.balancer, found.topology.http)
    _write(render_haproxy(plan), out)


@app.command("compose")
def compose(
    out: Annotated[
        str, typer.Option("--out", metavar="FOLDER", help="A folder below the product's.")
    ] = "deploy",
    product: ProductFolder = None,
    topology: TopologyName = None,
) -> None:
    """An image and a Compose file for one machine: the product and all that it runs on."""
    from tenfold.runtimes.containers.compose import decide_compose, render_files

    found = source(product, topology, None)
    if not found.topology.shared:
        raise UserMistakeError(
            f"The topology {found.topology.name!r} keeps its data in SQLite and is one process, "
            "which needs none of these containers. Name one on PostgreSQL with --topology."
        )
    if found.topology.services:
        raise UserMistakeError(
            f"The topology {found.topology.name!r} has services, which run under one supervisor: "
            "there are no containers for them yet. Start `tenfold run` on one machine, or name a "
            "topology without services with --topology."
        )
    if not (found.root / "pyproject.toml").is_file():
        raise UserMistakeError(
            f"There is no pyproject.toml in {found.root}, by which the image could install the "
            "product. Write one, and export again."
        )
    folder = found.root / out
    folder.mkdir(parents=True, exist_ok=True)
    depth = len(folder.relative_to(found.root).parts)
    plan = decide_compose(found, "/".join([".."] * depth) or ".", out)
    for name, text in render_files(plan).items():
        _write(text, folder / name)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        print(f"Wrote {out}.")
