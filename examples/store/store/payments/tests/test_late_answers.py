"""What becomes of an order when the provider answers late, and not always the same."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from store.catalog.contract import Catalog, NewProduct
from store.inventory.contract import Delivery, Inventory, Received, Stock
from store.orders.contract import Line, Order, Orders, OrderStatus
from store.payments.contract import Payments, PaymentState
from store.payments.module import PaymentsModule
from store.payments.provider import Answer, Captured, Charge, Declined, ProviderSilentError
from tenfold import Money
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import load_product

pytestmark = pytest.mark.anyio
HOME = Path(__file__).parents[3]
CHARGED, DECLINED = Captured(reference="ch_1"), Declined(reason="no funds")


class Scripted:
    """A provider that says what it was told to, one element for each question, then is silent."""

    def __init__(self, *script: Sequence[Answer]) -> None:
        self.script = list(script)
        self.asked = 0

    async def capture(self, charge: Charge) -> Sequence[Answer]:
        self.asked += 1
        if not self.script:
            raise ProviderSilentError("nothing is left to say")
        return self.script.pop(0)

    async def find(self, key: str) -> Answer | None:
        return None

    async def close(self) -> None:
        pass


@asynccontextmanager
async def selling(data: Path, provider: Scripted) -> AsyncIterator[tuple[Host, Order]]:
    """A store with ten lamps, two of which are ordered; the provider is this one."""
    host = Host(load_product(HOME, overrides={"data": str(data)}), data_dir=data)
    await host.start()
    try:
        payments = host.modules["payments"].instance
        assert isinstance(payments, PaymentsModule)
        await payments._provider.close()
        payments._provider = provider
        (lamp,) = await host.proxy(Catalog).add_products(
            [NewProduct(sku="LAMP", name="Lamp", price=Money.from_minor(255, "GBP"))]
        )
        received = Received(product_id=lamp.id, quantity=10)
        await host.proxy(Inventory).receive_deliveries(
            [Delivery(delivery_no="1", items=[received])]
        )
        order = await host.proxy(Orders).place_order("c", [Line(product_id=lamp.id, quantity=2)])
        await host.idle()
        yield host, order
    finally:
        await host.stop()


async def stock(host: Host, order: Order) -> Stock:
    return await host.proxy(Inventory).get_stock(order.lines[0].product_id)


async def test_a_decline_gives_the_pieces_back_once(tmp_path: Path) -> None:
    async with selling(tmp_path, Scripted([DECLINED, DECLINED])) as (host, order):
        assert (await host.proxy(Orders).get_order(order.id)).status is OrderStatus.REJECTED
        assert await stock(host, order) == Stock(free=10, reserved=0, sold=0)


@pytest.mark.parametrize(
    ("answers", "status", "left"),
    [
        ((DECLINED, CHARGED), OrderStatus.REJECTED, Stock(free=10, reserved=0, sold=0)),
        ((CHARGED, DECLINED), OrderStatus.CONFIRMED, Stock(free=8, reserved=0, sold=2)),
        (
            (CHARGED, Captured(reference="ch_2")),
            OrderStatus.CONFIRMED,
            Stock(free=8, reserved=0, sold=2),
        ),
    ],
)
async def test_the_first_of_two_contradicting_answers_stands_and_the_log_says_so(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    answers: tuple[Answer, ...],
    status: OrderStatus,
    left: Stock,
) -> None:
    async with selling(tmp_path, Scripted(answers)) as (host, order):
        assert (await host.proxy(Orders).get_order(order.id)).status is status
        assert await stock(host, order) == left
    (said,) = (x for x in caplog.records if x.name == "store.payments")
    assert said.levelname == "ERROR"
    assert "contradicts its first answer" in said.getMessage()
    assert str(order.id) in said.getMessage()


async def test_a_straggler_is_asked_about_without_beginning_a_further_row_of_questions(
    tmp_path: Path,
) -> None:
    provider = Scripted()
    async with selling(tmp_path, provider) as (host, order):
        _add_stragglers(tmp_path, 3)
        async with asyncio.timeout(20):
            while provider.asked < 4 or _questions(tmp_path) != 1:
                await asyncio.sleep(0.05)  # seen by the worker when its next question is due
        provider.script = [[CHARGED]]
        async with asyncio.timeout(20):
            while (await host.proxy(Payments).get_payment(order.id)).state in (
                PaymentState.INTENDED,
                PaymentState.UNKNOWN,
            ):
                await asyncio.sleep(0.05)  # the next question is due later
        await host.idle()
        assert await stock(host, order) == Stock(free=8, reserved=0, sold=2)


def _add_stragglers(data: Path, count: int) -> None:
    """Queue as many questions about the order as the schedule does in so many minutes."""
    (file,) = data.rglob("payments.db")
    with closing(sqlite3.connect(file)) as connection, connection:
        for number in range(count):
            connection.execute(
                "INSERT INTO tenfold_queue (waits, priority, run_at, handler, generation, tenant,"
                " message_id, body) SELECT 1, 0, 0, 'ask_straggler', generation, tenant, ?, body"
                " FROM tenfold_queue WHERE handler = 'ask_again' LIMIT 1",
                (f"m{number}",),
            )


def _questions(data: Path) -> int:
    """How many questions are still to be asked."""
    (file,) = data.rglob("payments.db")
    with closing(sqlite3.connect(file)) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM tenfold_queue WHERE waits > 0 AND handler LIKE 'ask%'"
        ).fetchone()
    return int(count)
