"""A million events through a broker while those who publish and who read are killed at random."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.brokers.servers import kafka_server
from tests.faults.store_process import NoAnswerError, StoreProcess, Wire, free_port
from tests.servers import OwnNats

pytestmark = pytest.mark.slow
METERING = Path(__file__).with_name("metering")
METERS = 200
AT_ONCE = 20
EACH = 50
POSTS = {"small": 60, "full": 1_000}
"""Each of 1,000 events and 20 samples."""
PAUSE_S = {"small": (0.1, 1.0), "full": (0.1, 3.0)}
STILL_S = 90.0
"""For how long nothing may be heard while something is to be heard."""


@pytest.fixture(scope="module")
def nats_url(own_nats: Callable[..., OwnNats]) -> str:
    return own_nats(durable=True).url


@pytest.fixture(scope="module")
def kafka_url() -> Iterator[str]:
    with kafka_server() as server:
        yield server.url


@pytest.fixture(params=["database", "nats", "kafka"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """Where the broker is; empty where the database carries the events."""
    if request.param == "database":
        return ""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def settings(broker_url: str, postgres_url: str) -> dict[str, str]:
    return {
        "TENFOLD_TOPOLOGY": "scale",
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_BROKER_URL": broker_url,
        "TENFOLD_PROCESSES__RESTART_MAX_S": "0.5",
    }


@pytest.fixture
def metering(tmp_path: Path, settings: dict[str, str]) -> Iterator[StoreProcess]:
    with StoreProcess(
        tmp_path / "data", free_port(), settings=settings, product=METERING
    ) as running:
        assert running.await_ready(60), running.tail()
        yield running


class Readings:
    """Posts, each with its key until it is told as done."""

    def __init__(self, port: int, posts: int) -> None:
        self.told = 0
        self.retried = 0
        self.error: str | None = None
        self._port = port
        self._posts = posts
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        wire = Wire(self._port, timeout_s=70)
        for number in range(self._posts):
            body = {
                "first": number * AT_ONCE % METERS,
                "meters": AT_ONCE,
                "count": EACH,
                "samples": 1,
            }
            while True:
                try:
                    answer = wire.post("/v1/readings", body, idempotency_key=f"post-{number}")
                except NoAnswerError as error:
                    self.error = str(error)
                    return
                if answer.status < 300:
                    self.told += 1
                    break
                if answer.status != 503:
                    self.error = f"{answer.status} {answer.body}"
                    return
                self.retried += 1
                time.sleep(0.05)
        wire.close()


class Killer:
    """Kills processes of both services by turns, when something was heard since the last one.

    Processes that are killed faster than they can begin would show nothing.
    """

    def __init__(self, running: StoreProcess, seed: int, size: str) -> None:
        self.kills: dict[str, int] = {}
        self._running = running
        self._random = random.Random(seed)
        self._pause_s = PAUSE_S[size]
        self._stop = threading.Event()
        self.moved = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def stop(self) -> None:
        self._stop.set()
        self.moved.set()
        self.thread.join()

    def _run(self) -> None:
        services = itertools.cycle(["tally", "meter"])
        while not self._stop.wait(self._random.uniform(*self._pause_s)):
            self.moved.wait()
            if self._stop.is_set():
                break
            self.moved.clear()
            service = next(services)
            pids = children(self._running.pid, service)
            if not pids:
                continue
            name = self._random.choice(sorted(pids))
            try:
                os.kill(pids[name], signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills[service] = self.kills.get(service, 0) + 1


def children(supervisor: int, service: str) -> dict[str, int]:
    """The processes of a service, by their names, which stand in their command lines."""
    found: dict[str, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = stat.with_name("cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if parent == supervisor:
            for word in words:
                if word.startswith(f"{service}-".encode()):
                    found[word.decode()] = int(stat.parent.name)
    return found


def heard(wire: Wire) -> dict[str, int] | None:
    """What the sums are; None while nobody can tell."""
    try:
        answer = wire.get("/v1/sums")
    except NoAnswerError:
        return None
    return answer.body if answer.status == 200 else None


def expected(posts: int) -> dict[str, int]:
    """What is to be heard in the end, once each and in order."""
    times = [len(range(at, posts, METERS // AT_ONCE)) for at in range(METERS // AT_ONCE)]
    readings = [count * EACH for count in times]
    return {
        "metered": AT_ONCE * sum(readings),
        "metered_sum": AT_ONCE * sum(n * (n + 1) // 2 for n in readings),
        "sampled": AT_ONCE * sum(times),
        "sampled_sum": AT_ONCE * sum(n * (n + 1) // 2 for n in times),
        "misordered": 0,
    }


@pytest.mark.timeout(3600)
def test_every_event_has_its_effect_once_and_in_its_keys_order(
    metering: StoreProcess, size: str, seed: int
) -> None:
    posts = POSTS[size]
    readings, killer = Readings(metering.port, posts), Killer(metering, seed, size)
    began = time.monotonic()
    readings.thread.start()
    killer.thread.start()
    wanted, wire, last = expected(posts), Wire(metering.port), None
    moved_s = time.monotonic()
    try:
        while True:
            found = heard(wire)
            if found is not None and found != last:
                last, moved_s = found, time.monotonic()
                killer.moved.set()
            if last is not None and last["metered"] >= wanted["metered"] * 0.9:
                killer.stop()
            if last == wanted and not readings.thread.is_alive():
                break
            assert readings.error is None, readings.error
            assert time.monotonic() - moved_s < STILL_S, (last, wanted, metering.tail())
            time.sleep(0.1)
    finally:
        killer.stop()
        readings.thread.join(60)
        wire.close()
    took_s = time.monotonic() - began
    print(
        f"\n{wanted['metered']:,} events in batches and {wanted['sampled']:,} by the queue in "
        f"{took_s:.0f} s ({wanted['metered'] / took_s:,.0f}/s); killed: {killer.kills}, "
        f"posts sent again: {readings.retried}; seed {seed}"
    )
    assert killer.kills.keys() == {"meter", "tally"}, "too few were killed to mean anything"
    assert metering.stop() == 0, metering.tail()
