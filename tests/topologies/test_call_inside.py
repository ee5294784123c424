"""A handler that calls another module inside its unit of work is told how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.store_process import STORE, StoreProcess, free_port
from tests.topologies.shop_client import Shop, eventually

# The store's orders, but for a statement that stands above the call to the catalog.
_HASTY = """
from __future__ import annotations

from store.inventory.contract import StockReserved
from store.orders import tables
from store.orders.contract import Line, Order
from store.orders.module import OrdersModule
from tenfold import subscribe


class HastyOrders(OrdersModule):
    async def place_order(self, customer_id: str, lines: list[Line]) -> Order:
        if customer_id == "hasty":
            await self.db.value(tables.FIND_INVOICE, invoice_no="none")
        return await super().place_order(customer_id, lines)

    @subscribe
    async def look_again(self, event: StockReserved) -> None:
        await self.db.value(tables.FIND_INVOICE, invoice_no="none")
        await self.catalog.get_products([])
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[StoreProcess]:
    package = tmp_path / "hasty"
    shutil.copytree(STORE / "store" / "orders" / "migrations", package / "migrations")
    (package / "__init__.py").touch()
    (package / "module.py").write_text(_HASTY)
    declared = (STORE / "tenfold.toml").read_text()
    changed = declared.replace("store.orders.module:OrdersModule", "hasty.module:HastyOrders")
    assert changed != declared
    (tmp_path / "tenfold.toml").write_text(changed)
    settings = {
        "TENFOLD_PRODUCT": str(tmp_path / "tenfold.toml"),
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(STORE), *filter(None, sys.path)]),
    }
    with StoreProcess(tmp_path / "data", free_port(), settings=settings) as process:
        assert process.await_ready(), process.tail()
        yield process
        assert process.stop() == 0


def test_the_call_fails_in_the_prototype_and_the_log_says_how_to_mend_it(
    process: StoreProcess,
) -> None:
    shop = Shop(f"http://127.0.0.1:{process.port}")
    lamp = shop.product(stock=5)
    refused = shop.order("hasty", (lamp, 1))
    assert refused.status == 500
    assert refused.body["code"] == "unit_of_work.call_inside"
    assert refused.body["outcome"] == "not_done"
    log = process.tail(20_000)
    assert "orders.place_order called catalog.get_products after its unit of work had begun" in log
    assert "move the call above the handler's first statement on self.db" in log
    assert refused.body["trace_id"] in log
    assert shop.get("/v1/customers/hasty/orders").body["items"] == []

    # Background work fails in the same way, is tried again, and harms no other work.
    ended = shop.settled_order("patient", (lamp, 1))
    assert ended["status"] == "confirmed"
    assert eventually(lambda: "catalog.get_products after its unit" in process.tail(40_000) or None)
