"""`tenfold restart` and `tenfold processes`: what a running supervisor is asked."""

from __future__ import annotations

import asyncio

from tenfold.cli.options import Data, Json, ProductFolder, TopologyName, source
from tenfold.cli.show import print_json, print_table

__all__ = ["processes", "restart"]


def restart(
    product: ProductFolder = None, topology: TopologyName = None, data: Data = None
) -> None:
    """Replace the processes of a running product one by one, with no request failing.

    They run the code and the topology file that are on the disk now.
    """
    from tenfold.runtimes.restarts import ask_restart

    found = source(product, topology, data)
    asyncio.run(ask_restart(found.data_dir, lambda text: print(text, flush=True)))
    print("All processes are new.")


def processes(
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """The processes of a running product, and how often each was started again."""
    from tenfold.runtimes.restarts import ask_states

    states = asyncio.run(ask_states(source(product, topology, data).data_dir))
    columns = ["name", "role", "state", "pid", "restarts"]
    rows = [{column: getattr(state, column) for column in columns} for state in states]
    if json:
        print_json(rows)
    else:
        print_table(columns, [[row[column] for column in columns] for row in rows])
