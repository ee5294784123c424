"""Wait until everything that an import set off has come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from store.orders.contract import Orders
from tenfold import Struct
from tenfold.runtimes.desk import Desk

__all__ = ["Settled", "settle"]

LOOK_EVERY_S = 2.0
LATER_EVERY_S = 0.25
PATIENCE_S = 300.0


class Settled(Struct):
    """How it ended: orders that are still open, and background work that was given up (dead)."""

    open: int
    dead: int


async def settle(orders: Orders, desk: Desk, on_open: Callable[[int], None]) -> Settled:
    """Wait until every order is confirmed or rejected and every queue is empty.

    Work that waits for a later attempt is waited for while orders are open,
    for as long as one is settled every five minutes.

    Args:
        on_open: is told from time to time how many orders are still open.
    """
    clock = asyncio.get_running_loop().time
    fewest, since = -1, clock()
    while True:
        idle = await desk.wait_idle(LOOK_EVERY_S)
        still_open = (await orders.count_orders()).placed
        on_open(still_open)
        if not idle:
            since = clock()
            continue
        backlog = await desk.backlog()
        if still_open != fewest:
            fewest, since = still_open, clock()
        stuck = not backlog.later or clock() - since > PATIENCE_S
        if backlog.settled and (still_open == 0 or stuck):
            return Settled(open=still_open, dead=backlog.dead)
        # What comes is in the future of another process; it can only be looked for.
        await asyncio.sleep(LATER_EVERY_S)
