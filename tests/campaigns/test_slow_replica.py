"""Replicas that are slow, or lose what they are asked: what callers see of it, on real processes.

`REPLICA_RUNS=10` asks for as many interleaved runs; fewer are made without it.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import pytest

from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import TenfoldError
from tenfold.edges.frames import bind_socket
from tenfold.ports.peers import Outgoing
from tests.campaigns.waiting_server import AT_ONCE, OPERATIONS, WAIT_S
from tests.unit.frames.simulated import percentile

pytestmark = [pytest.mark.anyio, pytest.mark.campaign]
RUNS = int(os.environ.get("REPLICA_RUNS", "5"))
SECONDS = 4.0
PER_S = 0.4 * 4 * AT_ONCE / WAIT_S
LOSING_WAIT_S, LOSES_S, LOST_PER_S = 0.03, 0.25, 1_500.0
ROOT = Path(__file__).parents[2]


@contextmanager
def replicas(
    folder: Path, waits_s: list[float], *, loses_s: float = 0.0, seen: list[int] | None = None
) -> Iterator[Fixed]:
    """Processes, each at a socket of its own; in the end `seen` has how many calls came to each."""

    def end(process: subprocess.Popen[str]) -> None:
        said, _ = process.communicate()
        if seen is not None:
            seen.append(int(said))

    with ExitStack() as stack:
        places = {}
        for number, wait_s in enumerate(waits_s):
            path = folder / str(number)
            with bind_socket(path) as listener:
                listener.listen(64)
                fd = listener.fileno()
                given = map(str, (fd, wait_s, loses_s))
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.campaigns.waiting_server", *given],
                    pass_fds=[fd],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            stack.callback(end, process)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            places[str(path)] = partial(connect, path)
        yield Fixed(places, links=2)


async def run(
    remote: RemoteService,
    name: str,
    seed: int,
    per_s: float = PER_S,
    lost: list[Exception] | None = None,
) -> list[float]:
    """Calls leave when they are due, whatever became of others; latencies count from then.

    Args:
        lost: takes the errors of those that fail, which without it is a failure.
    """
    spec = OPERATIONS[f"waiting.{name}"]
    outgoing = Outgoing(
        operation=spec, arguments=spec.arguments(), module="waiting", timeout_s=10.0
    )
    draw, loop = random.Random(seed), asyncio.get_running_loop()
    took: list[float] = []

    async def ask(due_s: float) -> None:
        try:
            await remote.call(outgoing)
        except TenfoldError as error:
            if lost is None:
                raise
            lost.append(error)
        else:
            took.append(loop.time() - due_s)

    due_s = loop.time()
    end_s = due_s + SECONDS
    async with asyncio.TaskGroup() as tasks:
        while due_s < end_s:
            await asyncio.sleep(max(due_s - loop.time(), 0))
            tasks.create_task(ask(due_s))
            due_s += draw.expovariate(per_s)
    return took


@pytest.mark.parametrize("name", ["wait", "hedged"])
async def test_at_the_99th_percentile_callers_see_little_of_it(tmp_path: Path, name: str) -> None:
    fleets = {"healthy": [WAIT_S] * 4, "one slow": [WAIT_S] * 3 + [10 * WAIT_S]}
    found: dict[str, list[float]] = {label: [] for label in fleets}
    with ExitStack() as stack:
        remotes: dict[str, RemoteService] = {}
        for label, waits_s in fleets.items():
            folder = tmp_path / label.replace(" ", "-")
            folder.mkdir()
            places = stack.enter_context(replicas(folder, waits_s))
            remotes[label] = RemoteService(label, places)
        try:
            for number in range(RUNS):
                for label, remote in remotes.items():
                    took = await run(remote, name, number)
                    found[label].append(percentile(took, 0.99))
            seen = {label: remote.statistics() for label, remote in remotes.items()}
        finally:
            for remote in remotes.values():
                await remote.close()
    ratio = median(found["one slow"]) / median(found["healthy"])
    sent = sum(seen["one slow"].operations[0].outcomes.values())
    print(f"\n{name}, {PER_S:.0f} calls a second, {RUNS} runs of {SECONDS:g} s; p99 in ms:")
    for label, values in found.items():
        print(
            f"  {label:<9} median {median(values) * 1e3:.1f}", *(f"{v * 1e3:.1f}" for v in values)
        )
    again = seen["one slow"].hedges + seen["one slow"].retries
    print(f"  ratio {ratio:.2f}; calls sent a second time: {again} of {sent}")
    assert again <= 0.2 * sent
    assert ratio <= 1.5


async def test_what_is_lost_all_the_time_is_sent_again_within_the_budget(tmp_path: Path) -> None:
    """More than 1,000 calls a second, of which most are lost: all replicas lose theirs always."""
    seen: list[int] = []
    lost: list[Exception] = []
    with replicas(tmp_path, [LOSING_WAIT_S] * 4, loses_s=LOSES_S, seen=seen) as places:
        remote = RemoteService("losing", places)
        try:
            took = await run(remote, "wait", 1, LOST_PER_S, lost)
            counted = remote.statistics()
        finally:
            await remote.close()
    calls = len(took) + len(lost)
    ratio = sum(seen) / calls
    print(
        f"\n{calls / SECONDS:,.0f} calls a second; {len(lost):,} of {calls:,} failed; "
        f"{counted.retries:,} sent again, {counted.unbudgeted:,} not; "
        f"{sum(seen):,} came to the replicas: {ratio:.3f} times"
    )
    assert calls > 1_000 * SECONDS
    assert counted.unbudgeted > 0, "the budget was never asked for"
    assert ratio <= 1.2
