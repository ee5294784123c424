"""The store on two hosts, whose network loses packets, is slow, and is parted."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.databases import query
from tests.faults.growth_judge import judge_books
from tests.faults.hosts import Host, SlowWay, other_host
from tests.faults.placing import WITHIN_S, Orders, await_settled
from tests.faults.store_process import NoAnswerError, StoreProcess, Wire, free_port
from tests.servers import missing
from tests.unit.frames.authority import Authority

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(420)]
HERE = ("ordering",)
THERE = ("catalog", "payments", "reporting")
START_S = 120.0
LOST = 0.1
DELAY_S = 0.2
PARTED_S = 4.0
ORDERS = {"small": 60, "full": 150}
"""Placed during each fault."""


class Insistent(Orders):
    """Places each order until it is told that it is placed, under one key.

    `keys` are those of all orders; `again` counts the answers that one was not done, or that
    nobody knew.
    """

    rest_s = 0.05

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.keys: list[str] = []
        self.again = 0
        self.longest_s = 0.0

    def place(self, wire: Wire, body: object, key: str) -> None:
        self.keys.append(key)
        began = time.monotonic()
        while (told := self._try(wire, body, key)) is None:
            self.again += 1
            time.sleep(0.1)
        self.longest_s = max(self.longest_s, time.monotonic() - began)
        self.placed.append(told)

    def _try(self, wire: Wire, body: object, key: str) -> str | None:
        try:
            answer = wire.post("/v1/orders", body, idempotency_key=key)
        except NoAnswerError:
            return None
        if answer.status == 201:
            placed: str = answer.body["id"]
            return placed
        if answer.status not in (503, 504):
            self.failures.append(f"{answer.status} {answer.body}")
        return None


@pytest.fixture
def host() -> Iterator[Host]:
    with other_host() as made:
        yield made


@pytest.fixture
def reached_url(postgres_url: str) -> str:
    """The database by its server's Unix socket, which other hosts of this test reach as well."""
    ((folder,),) = query(postgres_url, "SHOW unix_socket_directories")
    place = folder.partition(",")[0]
    url = urlsplit(postgres_url)
    if not place or not os.path.exists(f"{place}/.s.PGSQL.{url.port}"):
        missing("socket of PostgreSQL", "Name a server of this machine, or none.")
    who = url.netloc.rpartition("@")[0]
    return f"postgresql://{who}@{url.path}?host={quote(place, safe='')}&port={url.port}"


@pytest.fixture
def ports() -> dict[str, int]:
    return {service: free_port() for service in (*HERE, *THERE)}


@pytest.fixture
def way(host: Host, ports: dict[str, int]) -> Iterator[SlowWay]:
    with SlowWay({ports[name]: (host.there, ports[name]) for name in THERE}) as made:
        yield made


@pytest.fixture
def front(
    tmp_path: Path, host: Host, way: SlowWay, ports: dict[str, int], reached_url: str
) -> Iterator[StoreProcess]:
    """The store: gateways and orders here, the rest there, called by the slow way."""
    authority = Authority(tmp_path / "tls")
    started: list[StoreProcess] = []
    for where, names in (("there", THERE), ("here", HERE)):
        here = where == "here"
        tls = authority.settings(*names, *(["gateway"] if here else []))
        settings = {
            "TENFOLD_TOPOLOGY": "scale",
            "TENFOLD_DATABASE_URL": reached_url,
            "TENFOLD_PROCESSES__WEB": "1" if here else "0",
            "TENFOLD_TLS__CERTIFICATE": str(authority.folder / tls.certificate),
            "TENFOLD_TLS__KEY": str(authority.folder / tls.key),
            "TENFOLD_TLS__AUTHORITY": str(authority.folder / tls.authority),
        }
        for service, port in ports.items():
            prefix = f"TENFOLD_SERVICES__{service.upper()}__"
            own = host.here if service in HERE else host.there
            reached = own if here == (service in HERE) or not here else "127.0.0.1"
            settings[f"{prefix}LISTEN"] = f"{own}:{port}"
            settings[f"{prefix}ADDRESSES"] = f"{reached}:{port}"
            settings[f"{prefix}REPLICAS"] = "1" if service in names else "0"
        under = [] if here else host.under
        started.append(StoreProcess(tmp_path / where, free_port(), settings=settings, under=under))
    try:
        yield started[1]
    finally:
        for process in started:
            process.kill()


def await_serving(front: StoreProcess) -> None:
    """Until the catalogue answers through the gateway."""
    assert front.await_ready(START_S), front.tail()
    wire, until = Wire(front.port), time.monotonic() + START_S
    while wire.get("/v1/products?limit=1").status != 200:
        assert time.monotonic() < until, front.tail()
        time.sleep(0.05)
    wire.close()


def test_nothing_is_lost_or_doubled_on_a_network_that_loses_is_slow_and_is_parted(
    front: StoreProcess, host: Host, way: SlowWay, postgres_url: str, size: str
) -> None:
    await_serving(front)
    again: dict[str, int] = {}
    more = ORDERS[size]
    with Insistent(front.port) as orders:

        def during(fault: str) -> None:
            before = orders.again
            orders.await_placed(more)
            again[fault] = orders.again - before

        during("no fault")
        host.lose(LOST)
        during("a tenth of the packets lost")
        assert host.lost > 0
        host.heal()
        way.delay_s, orders.longest_s = DELAY_S, 0.0
        during("each way slower by 200 ms")
        assert orders.longest_s > 2 * DELAY_S
        way.delay_s = 0.0
        host.lose(1.0)
        before = orders.again
        _stands_while_parted(front.port)
        host.heal()
        again["parted"] = orders.again - before
        during("together again")
    assert orders.failures == []
    assert again["no fault"] == 0
    assert len(set(orders.placed)) == len(orders.placed) == len(orders.keys)
    await_settled(front, orders.placed)
    counts, wrong = asyncio.run(judge_books(postgres_url))
    assert wrong == []
    assert counts.placed == 0
    assert counts.confirmed + counts.rejected == len(orders.keys)
    print(f"\n{len(orders.placed)} orders; tried again during {again}")


def _stands_while_parted(port: int) -> None:
    """The front goes on answering, and says what it cannot do, within the time that it has."""
    wire, until = Wire(port), time.monotonic() + PARTED_S
    said: set[int] = set()
    longest_s = 0.0
    while time.monotonic() < until or not said & {503, 504}:
        began = time.monotonic()
        said.add(wire.get("/v1/products?limit=1").status)
        longest_s = max(longest_s, time.monotonic() - began)
        assert wire.get("/_tenfold/ready").status == 200
    assert said <= {200, 503, 504}
    assert longest_s < WITHIN_S / 2
    wire.close()
