"""The store in several processes on PostgreSQL: replaced and killed while orders come in."""

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


KILLED = {
    "growth": ("worker-1", "worker-2"),
    "scale": ("catalog-1", "ordering-1", "payments-1", "reporting-1"),
}
"""By topology, whose death no caller is to notice: they have no connection to these."""


@pytest.fixture(params=list(KILLED))
def settings(request: pytest.FixtureRequest, postgres_url: str) -> dict[str, str]:
    topology: str = request.param
    workers = {"TENFOLD_PROCESSES__WORKERS": "2"} if topology == "growth" else {}
    return {
        "TENFOLD_TOPOLOGY": topology,
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_PROCESSES__WEB": "2",
        "TENFOLD_HTTP__KEEP_ALIVE_S": "2",
        **workers,
    }


@pytest.fixture
def store(tmp_path: Path, settings: dict[str, str]) -> Iterator[StoreProcess]:
    with StoreProcess(tmp_path / "data", free_port(), settings=settings) as running:
        assert running.await_ready(WITHIN_S), running.tail()
        yield running


def test_orders_go_on_while_every_process_is_replaced(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    with Orders(store.port) as orders:
        assert "All processes are new." in command(settings, store.data, "restart")
        orders.await_placed(20)
    assert orders.failures == []
    assert len(set(orders.placed)) == len(orders.placed)
    await_settled(store, orders.placed)
    assert store.stop() == 0, store.tail()


def pid_of(name: str, settings: dict[str, str], store: StoreProcess) -> int:
    rows: list[Any] = msgspec.json.decode(command(settings, store.data, "processes", "--json"))
    found: int = {row["name"]: row["pid"] for row in rows}[name]
    return found


def test_orders_go_on_although_processes_are_killed(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    with Orders(store.port) as orders:
        for name in KILLED[settings["TENFOLD_TOPOLOGY"]]:
            os.kill(pid_of(name, settings, store), signal.SIGKILL)
            orders.await_placed(20)
    assert orders.failures == []
    assert len(set(orders.placed)) == len(orders.placed)
    await_settled(store, orders.placed)
    assert store.stop() == 0, store.tail()


@pytest.mark.parametrize("settings", ["scale"], indirect=True)
def test_without_payments_the_catalogue_sells_and_orders_wait(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    held = pid_of("payments-1", settings, store)
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
