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
from tests.faults.store_process import StoreProcess, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def settings(postgres_url: str) -> dict[str, str]:
    return {
        "TENFOLD_TOPOLOGY": "growth",
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_PROCESSES__WEB": "2",
        "TENFOLD_PROCESSES__WORKERS": "2",
        "TENFOLD_HTTP__KEEP_ALIVE_S": "2",
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


def test_orders_end_although_workers_are_killed(
    store: StoreProcess, settings: dict[str, str]
) -> None:
    with Orders(store.port) as orders:
        for name in ("worker-1", "worker-2"):
            rows: list[Any] = msgspec.json.decode(
                command(settings, store.data, "processes", "--json")
            )
            pid = {row["name"]: row["pid"] for row in rows}[name]
            os.kill(pid, signal.SIGKILL)
            orders.await_placed(20)
    assert orders.failures == []
    await_settled(store, orders.placed)
    assert store.stop() == 0, store.tail()
