"""Orders that are placed while something happens to the store, and how they end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.store_process import STORE, NoAnswerError, StoreProcess, Wire

__all__ = ["WITHIN_S", "Orders", "await_settled", "command"]

_FINAL = {"confirmed", "rejected"}
WITHIN_S = 60.0


class Orders:
    """Threads that place orders, each with its key, once."""

    rest_s = 0.2
    """Between two orders of a thread, as customers do, and not as fast as it goes."""

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
            thread.join(WITHIN_S)

    def await_placed(self, more: int) -> None:
        wanted, until = len(self.placed) + more, time.monotonic() + WITHIN_S
        while len(self.placed) < wanted:
            assert time.monotonic() < until, self.failures[:5]
            time.sleep(0.01)

    def _place(self, number: int) -> None:
        wire = Wire(self._port, timeout_s=WITHIN_S)
        product = wire.get("/v1/products?limit=1").body["items"][0]["id"]
        count = 0
        while not self._stop.is_set():
            count += 1
            body = {
                "customer_id": f"thread-{number}",
                "lines": [{"product_id": product, "quantity": 1}],
            }
            self.place(wire, body, f"{number}-{count}")
            self._stop.wait(self.rest_s)
        wire.close()

    def place(self, wire: Wire, body: object, key: str) -> None:
        """Place one order, and note how that went."""
        try:
            answer = wire.post("/v1/orders", body, idempotency_key=key)
        except NoAnswerError as error:
            self.failures.append(str(error))
            return
        if answer.status == 201:
            self.placed.append(answer.body["id"])
        else:
            self.failures.append(f"{answer.status} {answer.body}")


def command(settings: Mapping[str, str], data: Path, *arguments: str, product: Path = STORE) -> str:
    run = "import sys; from tenfold.cli.entry import main; sys.exit(main())"
    environ = {
        **os.environ,
        **settings,
        "TENFOLD_DATA": str(data),
        "PYTHONPATH": os.pathsep.join([str(product), *(path for path in sys.path if path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", run, *arguments],
        cwd=product,
        env=environ,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def await_settled(store: StoreProcess, orders: list[str]) -> None:
    """Every order that was accepted ends confirmed or rejected."""
    wire, until = Wire(store.port), time.monotonic() + WITHIN_S
    left = list(orders)
    while left:
        found = [wire.get(f"/v1/orders/{order}") for order in left]
        left = [o for o, f in zip(left, found, strict=True) if f.body["status"] not in _FINAL]
        assert time.monotonic() < until, f"{len(left)} orders are open:\n{store.tail()}"
    wire.close()
