"""`tenfold export`: files for the programs around a product, written from its topology file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import ProductFolder, TopologyName, source

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


def _write(text: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text)
        print(f"Wrote {out}.")
