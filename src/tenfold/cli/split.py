"""`tenfold split`: a module of a running product becomes a service of its own, or comes back."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from tenfold.cli.options import Data, ProductFolder, TopologyName, source

__all__ = ["split"]


Back = Annotated[bool, typer.Option("--back", help="Let the web processes host it again.")]
ServiceName = Annotated[
    str, typer.Option("--service", metavar="NAME", help="Of the service; else the module's.")
]
Replicas = Annotated[
    int, typer.Option("--replicas", metavar="N", min=1, max=256, help="That answer calls.")
]
Workers = Annotated[
    int,
    typer.Option("--workers", metavar="N", min=0, max=256, help="That do its background work."),
]
StepS = Annotated[
    float,
    typer.Option(
        "--step", metavar="SECONDS", min=0.1, max=3600, help="How long each share is watched."
    ),
]
MostFaults = Annotated[
    float,
    typer.Option(
        "--most-faults", metavar="PERCENT", min=0, max=100, help="Of calls; beyond, it goes back."
    ),
]


def split(
    module: Annotated[str, typer.Argument(metavar="MODULE", help="The module.")],
    back: Back = False,
    service: ServiceName = "",
    replicas: Replicas = 1,
    workers: Workers = 0,
    step: StepS = 10.0,
    most_faults: MostFaults = 1.0,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Let a module of a running product be a service of its own, with no request failing.

    Its service is started, and 1, 5, 25, 50 and 100 % of the calls go there, as long as they
    do not fail. Then the web processes host it no more, and the topology file says so.
    Where it fails, or you press Ctrl-C, everything is as it was.
    """
    from tenfold.runtimes.restarts import ask_split
    from tenfold.runtimes.splits.asked import SplitAsked

    asked = SplitAsked(
        module=module,
        back=back,
        service=service,
        replicas=replicas,
        workers=workers,
        step_s=step,
        most_faults=most_faults / 100,
    )
    found = source(product, topology, data)

    def tell(text: str) -> None:
        print(text, flush=True)

    try:
        asyncio.run(ask_split(found.data_dir, asked, tell))
    except KeyboardInterrupt:
        print("Given up; it goes back, as the log of the product tells.", file=sys.stderr)
        raise typer.Exit(130) from None
