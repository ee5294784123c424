"""The disk of a running store is full, or fails: told truthfully, survived, mended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from store.invariants import broken_invariants, read_files
from tests.faults.judge import await_settled, dead_letters, rows
from tests.faults.store_process import Answer, StoreProcess, Wire, free_port
from tests.faults.tracing import failing_disk, need_strace

pytestmark = pytest.mark.linux


class Shop:
    """A running store, and orders of one product."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.port = free_port()
        self.wire = Wire(self.port)

    def start(self) -> StoreProcess:
        store = StoreProcess(self.data, self.port, trap=("none", 1, "ready"))
        try:
            assert store.await_ready(), store.tail()
            self.wire.close()
            self.product: str = self.wire.get("/v1/products?limit=1").body["items"][0]["id"]
        except BaseException:
            store.kill()
            raise
        return store

    def order(self, key: str, customer: str = "c1") -> Answer:
        line = {"product_id": self.product, "quantity": 1}
        body = {"customer_id": customer, "lines": [line]}
        return self.wire.post("/v1/orders", body, idempotency_key=key)

    def new_product(self) -> Answer:
        price = {"amount": "1.00", "currency": "GBP"}
        return self.wire.post(
            "/v1/products", {"sku": uuid4().hex[:20], "name": "Thing", "price": price}
        )

    def orders(self) -> int:
        count: int = rows(self.data / "orders.db", "SELECT count(*) FROM orders")[0][0]
        return count

    def await_settled(self) -> None:
        assert await_settled(self.data) == []
        assert broken_invariants(read_files(self.data)) == []
        assert dead_letters(self.data) == []

    def log_of(self, module: str) -> tuple[Path, Path]:
        return self.data / f"{module}.db-wal", self.data / f"{module}.db"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    need_strace()
    made = Shop(tmp_path)
    yield made
    made.wire.close()


def test_a_full_disk_is_told_and_the_store_works_on_when_there_is_room(shop: Shop) -> None:
    with shop.start() as store:
        before = [shop.order(f"before-{n}") for n in range(3)]
        assert {answer.status for answer in before} == {201}
        shop.await_settled()
        with failing_disk(store.pid, "pwrite64", "ENOSPC", *shop.log_of("orders")):
            for number in range(5):
                told = shop.order(f"during-{number}")
                assert (told.status, told.body["outcome"]) == (503, "not_done"), told
                assert told.body["code"] == "store.unavailable"
            assert shop.new_product().status == 201  # another module's file has room
            assert shop.wire.get(f"/v1/orders/{before[0].body['id']}").status == 200
            assert shop.wire.get("/_tenfold/ready").status == 200
            assert shop.orders() == 3
        after = [shop.order(f"during-{n}") for n in range(5)]
        assert {answer.status for answer in after} == {201}
        shop.await_settled()
        assert shop.orders() == 8
        assert store.stop() == 0


@pytest.mark.parametrize("module", ["inventory", "payments", "insights", "notifications"])
def test_background_work_waits_out_a_full_disk(shop: Shop, module: str) -> None:
    with shop.start() as store:
        with failing_disk(store.pid, "pwrite64", "ENOSPC", *shop.log_of(module)):
            placed = [shop.order(f"order-{n}") for n in range(5)]
            assert {answer.status for answer in placed} == {201}
            time.sleep(1.0)  # a disk that is full for a while is the matter itself
        shop.await_settled()
        statuses = {shop.wire.get(f"/v1/orders/{a.body['id']}").body["status"] for a in placed}
        assert statuses == {"confirmed"}
        assert store.stop() == 0


@pytest.mark.parametrize("writes", [20, 150])
def test_a_start_without_room_says_so_and_the_next_goes_on_from_there(
    tmp_path: Path, writes: int
) -> None:
    data, port = tmp_path / "data", free_port()
    inject = ("-f", "-q", "-o", "/dev/null", "-e", "trace=pwrite64")
    full = f"inject=pwrite64:error=ENOSPC:when={writes}+"
    with StoreProcess(data, port, under=[need_strace(), *inject, "-e", full]) as store:
        assert store.await_end(30) == 1
        assert "The disk is full: make room" in store.tail()
        assert "Traceback" not in store.tail()
    with StoreProcess(data, port) as store:
        assert store.await_ready(), store.tail()
        assert store.stop() == 0


def test_after_a_failed_sync_it_says_maybe_and_writes_no_more(shop: Shop) -> None:
    replies: dict[str, Any] = {}
    with shop.start() as store:
        assert shop.order("before-00").status == 201
        shop.await_settled()
        with failing_disk(store.pid, "fdatasync", "EIO", *shop.log_of("orders")):
            told = shop.order("during-00")
            assert (told.status, told.body["outcome"]) == (503, "maybe_done"), told
        # The disk is well again, but what the log holds is not known: a start settles it.
        told = shop.order("after-0000")
        assert (told.status, told.body["outcome"]) == (503, "not_done"), told
        assert shop.wire.get("/_tenfold/ready").status == 503
        assert shop.wire.get("/_tenfold/live").status == 200
        assert store.stop(within_s=20) == 0, store.tail()
    with shop.start() as store:
        for key in ("before-00", "during-00", "after-0000"):
            replies[key] = shop.order(key)
            assert replies[key].status == 201
        shop.await_settled()
        assert shop.orders() == 3
        assert store.stop() == 0
