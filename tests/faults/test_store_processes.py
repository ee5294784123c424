"""The store in several processes on PostgreSQL: replaced and killed while orders come in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.store_process import STORE, NoAnswerError, StoreProcess, Wire, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
_FINAL = {"confirmed", "rejected"}
_WITHIN_S = 60.0


class Orders:
    """Threads that place orders, each with its key, once."""

    def __init__(self, port: int, threads: int = 4) -> None:
        self.placed: list[str] = []
        self.failures: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._place, args=(n,)) for n in range(threads)]

    def __enter__(self) -> Orders:
        for thread in self._threads:
            thread.start()
        self.await_placed(4)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_WITHIN_S)

    def await_placed(self, more: int) -> None:
        wanted, until = len(self.placed) + more, time.monotonic() + _WITHIN_S
        while len(self.placed) < wanted:
            assert time.monotonic() < until, self.failures[:5]
            time.sleep(0.01)

    def _place(self, number: int) -> None:
        wire = Wire(self._port, timeout_s=_WITHIN_S)
        product = wire.get("/v1/products?limit=1").body["items"][0]["id"]
        count = 0
        while not self._stop.is_set():
            count += 1
            body = {
                "customer_id": f"thread-{number}",
                "lines": [{"product_id": product, "quantity": 1}],
            }
            try:
                answer = wire.post("/v1/orders", body, idempotency_key=f"{number}-{count}")
            except NoAnswerError as error:
                self.failures.append(str(error))
                continue
            if answer.status == 201:
                self.placed.append(answer.body["id"])
            else:
                self.failures.append(f"{answer.status} {answer.body}")
            self._stop.wait(0.2)  # as customers do, and not as fast as it goes
        wire.close()


def command(settings: Mapping[str, str], data: Path, *arguments: str) -> str:
    run = "import sys; from tenfold.cli.entry import main; sys.exit(main())"
    environ = {
        **os.environ,
        **settings,
        "TENFOLD_DATA": str(data),
        "PYTHONPATH": os.pathsep.join([str(STORE), *(path for path in sys.path if path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", run, *arguments],
        cwd=STORE,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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
        assert running.await_ready(_WITHIN_S), running.tail()
        yield running


def await_settled(store: StoreProcess, orders: list[str]) -> None:
    """Every order that was accepted ends confirmed or rejected."""
    wire, until = Wire(store.port), time.monotonic() + _WITHIN_S
    left = list(orders)
    while left:
        found = [wire.get(f"/v1/orders/{order}") for order in left]
        left = [o for o, f in zip(left, found, strict=True) if f.body["status"] not in _FINAL]
        assert time.monotonic() < until, f"{len(left)} orders are open:\n{store.tail()}"
    wire.close()


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
