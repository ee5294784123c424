"""The store as services: replaced and killed while orders come in through the gateways."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.placing import WITHIN_S, Orders, await_settled, command
from tests.faults.store_process import StoreProcess, Wire, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SERVICES = ("catalog-1", "ordering-1", "payments-1", "reporting-1")


@pytest.fixture
def settings(postgres_url: str) -> dict[str, str]:
    return {
        "TENFOLD_TOPOLOGY": "scale",
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_HTTP__KEEP_ALIVE_S": "2",
    }


@pytest.fixture
def store(tmp_path: Path, settings: dict[str, str]) -> Iterator[StoreProcess]:
    with StoreProcess(tmp_path / "data", free_port(), settings=settings) as running:
        assert running.await_ready(WITHIN_S), running.tail()
        yield running


def pids(settings: dict[str, str], store: StoreProcess) -> dict[str, int]:
    rows: list[Any] = msgspec.json.decode(command(settings, store.data, "processes", "--json"))
    return {row["name"]: row["pid"] for row in rows}


def test_orders_go_on_while_every_service_is_replaced(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    with Orders(store.port) as orders:
        assert "All processes are new." in command(settings, store.data, "restart")
        orders.await_placed(20)
    assert orders.failures == []
    await_settled(store, orders.placed)
    assert store.stop() == 0, store.tail()


def test_orders_go_on_while_services_are_killed(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    assert {"gateway-1", "gateway-2", *SERVICES} == set(pids(settings, store))
    with Orders(store.port) as orders:
        for name in SERVICES:
            os.kill(pids(settings, store)[name], signal.SIGKILL)
            orders.await_placed(12)
    assert orders.failures == []
    assert len(set(orders.placed)) == len(orders.placed)
    await_settled(store, orders.placed)
    assert store.stop() == 0, store.tail()


def test_without_payments_the_catalogue_sells_and_orders_wait(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    held = pids(settings, store)["payments-1"]
    os.kill(held, signal.SIGSTOP)
    try:
        wire = Wire(store.port)
        assert wire.get("/v1/products?limit=5").status == 200
        with Orders(store.port) as orders:
            orders.await_placed(8)
        assert orders.failures == []
        first = wire.get(f"/v1/orders/{orders.placed[0]}")
        assert (first.status, first.body["status"]) == (200, "placed")
    finally:
        os.kill(held, signal.SIGCONT)
    await_settled(store, orders.placed)
    wire.close()
