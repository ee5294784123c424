"""The store's order as a competent team writes it: FastAPI, SQLAlchemy, aiosqlite, an outbox.

The same work, equally durable: WAL with `synchronous=FULL`, each step a
transaction of its own that commits its effects and takes its outbox row away,
the charge outside of any transaction at the store's own test provider, with its
key. It is spared what the store does besides: one file for all, so that the
effects of one event need one transaction; no leases, no retries, no inbox.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field
from sqlalchemy import JSON, event, func, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from store.payments.provider import Captured, Charge
from store.payments.settings import TestProviderSettings
from store.payments.testing_provider import TestProvider
from tenfold import Money

__all__ = ["app"]

_DATA = os.environ["BENCH_DATA"]
_BATCH = 64
engine = create_async_engine(f"sqlite+aiosqlite:///{_DATA}/peer.db", pool_size=8)
Sessions = async_sessionmaker(engine, expire_on_commit=False)
# SQLite has one writer: waiting here is cheaper than being told that the file is locked.
writing = asyncio.Lock()
woken = asyncio.Event()
provider = TestProvider(TestProviderSettings(), f"{_DATA}/provider.db")


@event.listens_for(engine.sync_engine, "connect")
def _set_up(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


@event.listens_for(engine.sync_engine, "begin")
def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


class Base(DeclarativeBase):
    """Every table."""


class Product(Base):
    """What is sold."""

    __tablename__ = "products"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    sku: Mapped[str]
    name: Mapped[str]
    price_minor: Mapped[int]


class Stock(Base):
    """How much there is."""

    __tablename__ = "stock"
    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    free: Mapped[int]
    reserved: Mapped[int]
    sold: Mapped[int]


class Order(Base):
    """What was ordered."""

    __tablename__ = "orders"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[str] = mapped_column(index=True)
    status: Mapped[str]
    total_minor: Mapped[int]
    placed_at: Mapped[datetime]
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSON)


class Reservation(Base):
    """What is set aside."""

    __tablename__ = "reservations"
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]


class Payment(Base):
    """What was charged."""

    __tablename__ = "payments"
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str]
    state: Mapped[str]
    amount_minor: Mapped[int]
    reference: Mapped[str | None]


class Mail(Base):
    """What was written to whom."""

    __tablename__ = "mails"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(unique=True)
    customer_id: Mapped[str]
    body: Mapped[str]


class BestSeller(Base):
    """Pieces and revenue of each product."""

    __tablename__ = "best_sellers"
    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    quantity: Mapped[int]
    revenue_minor: Mapped[int]


class DailySales(Base):
    """Orders and revenue of each day."""

    __tablename__ = "daily_sales"
    day: Mapped[str] = mapped_column(primary_key=True)
    orders: Mapped[int]
    revenue_minor: Mapped[int]


class Outbox(Base):
    """What is still to be done."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    name: Mapped[str]
    order_id: Mapped[UUID]


class NewProduct(BaseModel):
    """A product with its stock."""

    sku: str
    name: str
    price_minor: Annotated[int, Field(gt=0)]
    stock: Annotated[int, Field(ge=0)]


class Line(BaseModel):
    """So many pieces of one product."""

    product_id: UUID
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]


class NewOrder(BaseModel):
    """The body of an order."""

    customer_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$")]
    lines: Annotated[list[Line], Field(min_length=1, max_length=200)]


class PlacedOrder(BaseModel):
    """What is answered."""

    id: UUID
    customer_id: str
    status: str
    total_minor: int
    placed_at: datetime
    lines: list[dict[str, Any]]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Make the tables, then work off the outbox until the end."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    worker = asyncio.create_task(work())
    yield
    worker.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Whether it serves."""
    return {}


@app.post("/v1/products")
async def add_product(new: NewProduct) -> dict[str, UUID]:
    """Add a product with its stock."""
    made = uuid4()
    async with writing, Sessions.begin() as session:
        session.add(Product(id=made, sku=new.sku, name=new.name, price_minor=new.price_minor))
        session.add(Stock(product_id=made, free=new.stock, reserved=0, sold=0))
    return {"id": made}


@app.post("/v1/orders")
async def place_order(new: NewOrder) -> PlacedOrder:
    """Place an order."""
    wanted = [line.product_id for line in new.lines]
    async with Sessions() as session:
        found = await session.scalars(select(Product).where(Product.id.in_(wanted)))
        products = {product.id: product for product in found}
    lines = [
        {
            "product_id": str(line.product_id),
            "sku": products[line.product_id].sku,
            "name": products[line.product_id].name,
            "quantity": line.quantity,
            "unit_minor": products[line.product_id].price_minor,
        }
        for line in new.lines
    ]
    order = Order(
        id=uuid4(),
        customer_id=new.customer_id,
        status="placed",
        total_minor=sum(line["unit_minor"] * line["quantity"] for line in lines),
        placed_at=datetime.now(UTC),
        lines=lines,
    )
    async with writing, Sessions.begin() as session:
        session.add(order)
        session.add(Outbox(name="placed", order_id=order.id))
    woken.set()
    return PlacedOrder.model_validate(order, from_attributes=True)


@app.get("/unsettled")
async def unsettled() -> dict[str, int]:
    """How many orders are not confirmed, or have something left to do."""
    async with Sessions() as session:
        left = await session.scalar(select(func.count()).select_from(Outbox))
        return {"left": left or 0}


async def work() -> None:
    """Work off the outbox in its order, in batches, some of them beside one another."""
    while True:
        woken.clear()
        async with Sessions() as session:
            rows = (await session.scalars(select(Outbox).order_by(Outbox.id).limit(_BATCH))).all()
        if not rows:
            await woken.wait()
            continue
        await asyncio.gather(*(STEPS[row.name](row) for row in rows))


async def reserve(row: Outbox) -> None:
    """Set stock aside, and record that the order is to be charged."""
    async with writing, Sessions.begin() as session:
        order = await session.get_one(Order, row.order_id)
        for line in order.lines:
            stock = await session.get_one(Stock, UUID(line["product_id"]))
            if stock.free < line["quantity"]:
                order.status = "rejected"
                await session.delete(row)
                return
            stock.free -= line["quantity"]
            stock.reserved += line["quantity"]
        session.add(Reservation(order_id=order.id, state="held"))
        session.add(
            Payment(
                order_id=order.id,
                key=f"charge-{order.id}",
                state="intended",
                amount_minor=order.total_minor,
                reference=None,
            )
        )
        await session.delete(row)
        session.add(Outbox(name="reserved", order_id=order.id))


async def charge(row: Outbox) -> None:
    """Charge at the provider, then record it and confirm the order."""
    async with Sessions() as session:
        payment = await session.get_one(Payment, row.order_id)
        order = await session.get_one(Order, row.order_id)
    amount = Money.from_minor(payment.amount_minor, "GBP")
    asked = Charge(key=payment.key, order_id=order.id, customer_id=order.customer_id, amount=amount)
    answer = (await provider.capture(asked))[0]
    if not isinstance(answer, Captured):
        raise TypeError(f"the provider declined {asked.key}")
    async with writing, Sessions.begin() as session:
        payment = await session.merge(payment)
        payment.state = "captured"
        payment.reference = answer.reference
        await session.execute(update(Order).where(Order.id == order.id).values(status="confirmed"))
        await session.delete(row)
        session.add(Outbox(name="confirmed", order_id=order.id))


async def finish(row: Outbox) -> None:
    """Sell what was set aside, write the mail, keep the read models."""
    async with writing, Sessions.begin() as session:
        order = await session.get_one(Order, row.order_id)
        reservation = await session.get_one(Reservation, row.order_id)
        reservation.state = "sold"
        for line in order.lines:
            stock = await session.get_one(Stock, UUID(line["product_id"]))
            stock.reserved -= line["quantity"]
            stock.sold += line["quantity"]
            revenue = line["unit_minor"] * line["quantity"]
            adding = upsert(BestSeller).values(
                product_id=UUID(line["product_id"]),
                name=line["name"],
                quantity=line["quantity"],
                revenue_minor=revenue,
            )
            await session.execute(
                adding.on_conflict_do_update(
                    index_elements=[BestSeller.product_id],
                    set_={
                        "quantity": BestSeller.quantity + adding.excluded.quantity,
                        "revenue_minor": BestSeller.revenue_minor + adding.excluded.revenue_minor,
                    },
                )
            )
        day = upsert(DailySales).values(
            day=f"{order.placed_at:%Y-%m-%d}", orders=1, revenue_minor=order.total_minor
        )
        await session.execute(
            day.on_conflict_do_update(
                index_elements=[DailySales.day],
                set_={
                    "orders": DailySales.orders + 1,
                    "revenue_minor": DailySales.revenue_minor + day.excluded.revenue_minor,
                },
            )
        )
        listed = "\n".join(f"{line['quantity']} x {line['name']}" for line in order.lines)
        session.add(Mail(id=uuid4(), order_id=order.id, customer_id=order.customer_id, body=listed))
        await session.delete(row)


STEPS = {"placed": reserve, "reserved": charge, "confirmed": finish}
