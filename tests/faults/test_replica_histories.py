"""Two replicas, one of them five seconds late: nobody misses its own write or sees time go back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tenfold.runtimes.local_servers.replica import query
from tests.faults.growth_store import GrowthStore
from tests.faults.replica_callers import Kind, ReplicaCallers, Seen
from tests.faults.replica_checker import violations
from tests.servers import OwnPostgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
_DELAY_S = 5
_CALLERS: dict[Kind, int] = {"header": 12, "cookie": 12, "naive": 12, "returning": 24}


@pytest.fixture
def servers(own_postgres: Callable[..., OwnPostgres]) -> OwnPostgres:
    """A primary, a replica that follows at once, and one that is late."""
    made = own_postgres(durable=False, replicas=2)
    late = made.replica_urls[1]
    query(late, f"ALTER SYSTEM SET recovery_min_apply_delay = '{_DELAY_S}s'")
    query(late, "SELECT pg_reload_conf()")
    return made


def started(
    folder: Path, servers: OwnPostgres, web: int, settings: dict[str, str] | None = None
) -> GrowthStore:
    urls = {
        "TENFOLD_DATABASE_URL": servers.url,
        "TENFOLD_REPLICA_URLS": ",".join(servers.replica_urls),
    }
    return GrowthStore(folder, {**urls, **(settings or {})}, web=web, workers=1)


async def with_a_replica_killed(
    callers: ReplicaCallers, requests: int, servers: OwnPostgres
) -> None:
    """Run the callers; for the middle third of their requests the good replica is dead."""
    running = asyncio.create_task(callers.run())
    try:
        for at, do in ((1 / 3, lambda: servers.kill("replica-1")), (2 / 3, servers.start)):
            while callers.done < requests * at and not running.done():
                await asyncio.sleep(0.02)
            await asyncio.to_thread(do)
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def shares(history: list[Seen], servers: OwnPostgres) -> Counter[str]:
    """How many reads of single registers each server has answered."""
    names = {urlsplit(servers.url).port: "the primary"}
    good, late = (urlsplit(url).port for url in servers.replica_urls)
    names |= {good: "the replica that follows at once", late: f"the one that is {_DELAY_S} s late"}
    return Counter(
        names.get(seen.server, "?") for seen in history if seen.did == "read" and seen.server
    )


def test_nobody_misses_its_own_write_or_sees_time_go_backwards(
    servers: OwnPostgres,
    tmp_path: Path,
    size: str,
    seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    requests, web = (100_000, 4) if size == "full" else (3_000, 2)
    with started(tmp_path / "store", servers, web) as store:
        store.await_ready()
        callers = ReplicaCallers(store.port, seed, requests, _CALLERS)
        began_s = time.monotonic()
        asyncio.run(with_a_replica_killed(callers, requests, servers))
        took_s = time.monotonic() - began_s
        assert store.stop() == 0, store.tail()
    history, found = callers.history, violations(callers.history)
    answered = shares(history, servers)
    with capsys.disabled():
        print(f"\n{callers.done} requests in {took_s:.0f} s, {dict(callers.answers)}")
        print(f"{callers.refused} turned away, {callers.behind} told to be behind")
        print(f"{len(history)} notes; the slowest answer took {callers.slowest_s:.2f} s")
        for name, count in answered.most_common():
            print(f"  {count:7} ({count / answered.total():4.0%}) readings from {name}")
        print(f"{len(found)} violations (run it again with --seed {seed} --size {size})")
    assert callers.failures == [], f"--seed {seed}"
    assert found[:10] == [], f"--seed {seed}"
    assert callers.done >= requests
    # The late one answers those who come back after its five seconds: few, in a small run.
    assert len(answered) >= (3 if size == "full" else 2), f"a server never answered: {answered}"


def test_the_checker_finds_what_tokens_prevent(
    servers: OwnPostgres, tmp_path: Path, seed: int
) -> None:
    with started(tmp_path / "store", servers, 2, {"FAULTS_FORGET_TOKENS": "1"}) as store:
        store.await_ready()
        callers = ReplicaCallers(store.port, seed, 3_000, {"header": 8, "cookie": 8, "naive": 8})
        asyncio.run(callers.run())
        assert store.stop() == 0, store.tail()
    found = violations(callers.history)
    # Of which kind is the moment's; the histories below have one of each.
    assert found


def wrote(caller: str, value: int, at_s: float) -> Seen:
    return Seen(caller, "wrote", "r1", value, at_s, at_s + 0.5)


def read(caller: str, value: int, at_s: float) -> Seen:
    return Seen(caller, "read", "r1", value, at_s, at_s + 0.5)


@pytest.mark.parametrize(
    ("history", "said"),
    [
        ([wrote("header-1", 1, 0), read("header-1", 1, 1), read("naive-1", 1, 2)], None),
        ([wrote("header-1", 1, 0), read("header-2", 0, 1)], None),
        ([wrote("header-1", 1, 0), read("header-1", 0, 1)], "wrote 1 to r1 and then read 0"),
        (
            [
                wrote("header-1", 1, 0),
                wrote("header-1", 2, 1),
                read("header-2", 2, 2),
                read("header-2", 1, 3),
            ],
            "read 2 of r1 and then 1",
        ),
        ([wrote("header-1", 1, 0), wrote("header-2", 1, 1)], "1 of r1 was given twice"),
        ([wrote("header-1", 1, 0), read("header-2", 2, 1)], "read 2 of r1, which nobody was told"),
        ([wrote("header-1", 1, 0), read("naive-1", 0, 1)], "without a token, read 0 of r1"),
        ([wrote("header-1", 1, 0), read("naive-1", 0, 0.2)], None),
    ],
)
def test_the_checker_tells_what_is_wrong_from_what_may_be(
    history: list[Seen], said: str | None
) -> None:
    found = violations(history)
    if said is None:
        assert found == []
    else:
        assert [text for text in found if said in text] == found != []
