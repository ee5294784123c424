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

from tests.brokers.servers import BrokerServer, kafka_server, rabbitmq_server
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
KILLS = {"small": 3, "full": 20}
"""Of the broker itself."""
STILL_S = 90.0
"""For how long nothing may be heard while something is to be heard."""


@pytest.fixture(scope="module")
def nats(own_nats: Callable[..., OwnNats]) -> OwnNats:
    return own_nats(durable=True)


@pytest.fixture(scope="module")
def kafka() -> Iterator[BrokerServer]:
    with kafka_server() as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[BrokerServer]:
    with rabbitmq_server() as server:
        yield server


@pytest.fixture(params=["database", "nats", "kafka"])
def broker(request: pytest.FixtureRequest) -> OwnNats | BrokerServer | None:
    """The broker; None where the database carries the events."""
    if request.param == "database":
        return None
    found: OwnNats | BrokerServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def settings(broker: OwnNats | BrokerServer | None, postgres_url: str) -> dict[str, str]:
    return {
        "TENFOLD_TOPOLOGY": "scale",
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_BROKER_URL": "" if broker is None else broker.url,
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


def carry(metering: StoreProcess, posts: int, moved: Callable[[float], None]) -> str:
    """Post, until every effect is there once and in order; what is to be told of it.

    Args:
        moved: told whenever more was heard, with the share of all that it is.
    """
    readings, wanted, wire = Readings(metering.port, posts), expected(posts), Wire(metering.port)
    began = moved_s = time.monotonic()
    readings.thread.start()
    last: dict[str, int] | None = None
    try:
        while last != wanted or readings.thread.is_alive():
            found = heard(wire)
            if found is not None and found != last:
                last, moved_s = found, time.monotonic()
                moved(last["metered"] / wanted["metered"])
            assert readings.error is None, readings.error
            assert time.monotonic() - moved_s < STILL_S, (last, wanted, metering.tail())
            time.sleep(0.1)
    finally:
        readings.thread.join(60)
        wire.close()
    took_s = time.monotonic() - began
    return (
        f"\n{wanted['metered']:,} events in batches and {wanted['sampled']:,} by the queue in "
        f"{took_s:.0f} s ({wanted['metered'] / took_s:,.0f}/s); posts sent again: "
        f"{readings.retried}"
    )


@pytest.mark.parametrize("broker", ["nats", "kafka", "rabbitmq"], indirect=True)
@pytest.mark.timeout(3600)
def test_a_broker_that_is_killed_and_comes_back_costs_no_event(
    metering: StoreProcess, broker: OwnNats | BrokerServer, size: str
) -> None:
    kills = KILLS[size]
    struck: list[float] = []

    def moved(share: float) -> None:
        if share < 0.95 and share > len(struck) / (kills + 1):
            struck.append(share)
            broker.kill()
            broker.start()

    told = carry(metering, POSTS[size], moved)
    print(f"{told}; killed the broker at {', '.join(f'{each:.0%}' for each in struck)}")
    assert len(struck) >= kills / 2
    assert metering.stop() == 0, metering.tail()


@pytest.mark.timeout(3600)
def test_every_event_has_its_effect_once_and_in_its_keys_order(
    metering: StoreProcess, size: str, seed: int
) -> None:
    killer = Killer(metering, seed, size)
    killer.thread.start()

    def moved(share: float) -> None:
        killer.moved.set()
        if share >= 0.9:
            killer.stop()

    try:
        told = carry(metering, POSTS[size], moved)
    finally:
        killer.stop()
    print(f"{told}; killed: {killer.kills}; seed {seed}")
    assert killer.kills.keys() == {"meter", "tally"}, "too few were killed to mean anything"
    assert metering.stop() == 0, metering.tail()
