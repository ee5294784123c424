"""A process of `growth_parent`: what `tenfold run` spawns, with shorter waits.

What a killed worker held is free again after seconds and not after half a
minute, so that hundreds of faults fit into minutes; see `SHORT_LEASE_S`.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial

SHORT_LEASE_S = 3.0


def shorten() -> None:
    """Let leases end, and forgotten payments be asked for, within seconds."""
    from store.payments import module as payments
    from tenfold.path import schedule
    from tenfold.path.queue import WorkerLimits
    from tenfold.runtimes import background

    shorter = partial(WorkerLimits, lease_s=SHORT_LEASE_S, poll_s=1.0)
    vars(background)["WorkerLimits"] = shorter

    def each_five_seconds(cron: str, after: datetime) -> datetime:
        now = after.astimezone(UTC).replace(microsecond=0)
        return now + timedelta(seconds=5 - now.second % 5)

    schedule.decide_next_fire = each_five_seconds
    payments._STRAGGLES_AFTER = timedelta(seconds=5)


def forget_tokens() -> None:
    """Let any replica answer anybody: the fault that the histories' checker must find."""
    from tenfold.path.positions import Positions
    from tenfold.ports.replicas import Freshness

    async def anything(self: Positions, token: str | None) -> Freshness | None:
        return None if self._replicas is None else Freshness(0)

    Positions.freshness = anything  # type: ignore[method-assign]


if __name__ == "__main__":
    shorten()
    if os.environ.get("FAULTS_FORGET_TOKENS"):
        forget_tokens()
    from tenfold.runtimes.child import main

    sys.exit(main(sys.argv[1:]))
