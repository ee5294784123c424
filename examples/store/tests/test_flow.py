"""The whole store in this process, with a provider that is at its worst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from store.catalog.contract import Catalog, NewProduct, Product
from store.catalog.module import CatalogModule
from store.insights.contract import Insights
from store.insights.module import InsightsModule
from store.invariants import broken_invariants, read_files, read_modules
from store.inventory.contract import Delivery, Inventory, Received
from store.inventory.module import InventoryModule
from store.notifications.contract import Notifications
from store.notifications.module import NotificationsModule
from store.orders.contract import InvoiceLine, Line, OrderCounts, Orders
from store.orders.module import OrdersModule
from store.payments.contract import Payments
from store.payments.module import PaymentsModule
from store.seed import seed
from tenfold import Money
from tenfold.runtimes import topology
from tenfold.runtimes.host import Host

pytestmark = pytest.mark.anyio
AT = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
MODULES: dict[str, type] = {
    "catalog": CatalogModule,
    "inventory": InventoryModule,
    "orders": OrdersModule,
    "payments": PaymentsModule,
    "notifications": NotificationsModule,
    "insights": InsightsModule,
}


@asynccontextmanager
async def running(data: Path, **provider: Any) -> AsyncIterator[Host]:
    settings = {"payments": {"test": {"ledger": "{data}/ledger.db", **provider}}}
    product = topology.Product(
        name="store",
        root=data,
        modules=MODULES,
        mounts={},
        seed=None,
        settings=settings,
        topology=topology.Topology(),
    )
    host = Host(product, data_dir=data)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def stocked(host: Host, pieces: int) -> Product:
    price = Money.from_minor(255, "GBP")
    (product,) = await host.proxy(Catalog).add_products(
        [NewProduct(sku="LAMP", name="Lamp", price=price)]
    )
    received = Received(product_id=product.id, quantity=pieces)
    await host.proxy(Inventory).receive_deliveries([Delivery(delivery_no="1", items=[received])])
    return product


async def settled(host: Host) -> OrderCounts:
    async with asyncio.timeout(60):
        while True:
            await host.idle()
            counts = await host.proxy(Orders).count_orders()
            if not counts.placed:
                await host.idle()
                return counts
            await asyncio.sleep(0.05)  # a question to the provider is due later


async def broken(host: Host, data: Path) -> list[str]:
    books = await read_modules(
        host.proxy(Inventory),
        host.proxy(Orders),
        host.proxy(Payments),
        host.proxy(Notifications),
    )
    return broken_invariants(books) + broken_invariants(read_files(data))


@pytest.mark.parametrize(
    "provider",
    [
        {"silent_share": 1.0, "silent_s": 0.0},
        {"twice_share": 1.0},
        {"late_share": 1.0, "late_s": 0.05},
        {"decline_share": 0.4, "silent_share": 0.4, "silent_s": 0.0, "twice_share": 0.5},
    ],
)
async def test_the_books_balance_however_the_provider_behaves(
    tmp_path: Path, provider: dict[str, Any]
) -> None:
    async with running(tmp_path, **provider) as host:
        lamp = await stocked(host, 20)
        orders = host.proxy(Orders)
        await asyncio.gather(
            *(
                orders.place_order(f"c{n}", [Line(product_id=lamp.id, quantity=1)])
                for n in range(30)
            )
        )
        counts = await settled(host)
        assert counts.confirmed + counts.rejected == 30
        assert counts.confirmed <= 20
        assert await broken(host, tmp_path) == []


async def test_a_provider_that_gives_no_answer_is_in_the_log_with_the_order_and_no_customer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, silent_share=1.0, silent_s=0.0) as host:
        lamp = await stocked(host, 1)
        orders = host.proxy(Orders)
        order = await orders.place_order("somebody", [Line(product_id=lamp.id, quantity=1)])
        await settled(host)
    said = [x.getMessage() for x in caplog.records if x.name == "store.payments"]
    assert said
    assert all(str(order.id) in text and "told to be silent" in text for text in said)
    assert not any("somebody" in text for text in said)


async def test_an_invoice_is_recorded_once_by_its_number(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        lamp = await stocked(host, 100)
        orders = host.proxy(Orders)
        lines = [
            InvoiceLine(product_id=lamp.id, quantity=n, unit_price=Money.from_minor(n, "GBP"))
            for n in (1, 2)
        ]
        first = await orders.record_invoice("536365", "17850", lines, AT)
        again = await orders.record_invoice("536365", "17850", lines, AT)
        assert (first.new, again.new, first.order_id == again.order_id) == (True, False, True)
        await settled(host)
        (day,) = (await host.proxy(Insights).daily_sales()).items
        assert (day.date, day.orders, day.revenue.minor) == (AT.date(), 1, 5)
        assert await broken(host, tmp_path) == []


async def test_the_seed_changes_nothing_the_second_time(tmp_path: Path) -> None:
    async with running(tmp_path) as host:
        catalog, inventory = host.proxy(Catalog), host.proxy(Inventory)
        await seed(catalog, inventory)
        once = (await catalog.list_products(limit=100), await inventory.list_stocks())
        await seed(catalog, inventory)
        assert (await catalog.list_products(limit=100), await inventory.list_stocks()) == once
        assert len(once[0].items) == len(once[1]) == 24


async def test_read_models_are_the_same_when_they_are_built_anew(tmp_path: Path) -> None:
    async with running(tmp_path, decline_customers=["bad"]) as host:
        lamp = await stocked(host, 50)
        orders, insights = host.proxy(Orders), host.proxy(Insights)
        for n in range(30):
            buyer = "bad" if n % 3 == 0 else "good"
            await orders.place_order(buyer, [Line(product_id=lamp.id, quantity=1 + n % 4)])
        await settled(host)

        async def seen() -> list[Any]:
            return [
                await orders.list_customer_orders("good", limit=100),
                await orders.list_customer_orders("bad", limit=100),
                await insights.best_sellers(),
                await insights.daily_sales(),
            ]

        before = await seen()
        for module, name in (
            ("orders", "order_history"),
            ("insights", "best_sellers"),
            ("insights", "daily_sales"),
        ):
            generation = await host.rebuild(module, name)
            async with asyncio.timeout(30):
                while (await host.modules[module].generations.state())[name].active != generation:
                    await asyncio.sleep(0.01)
        assert await seen() == before
