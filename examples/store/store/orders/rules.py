"""What the orders decide: what an order holds and costs, and how it may end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from store.catalog.contract import Product
from store.orders.contract import (
    MAX_TOTAL_MINOR,
    InvoiceLine,
    Line,
    MixedCurrencies,
    Order,
    OrderLine,
    OrderStatus,
    OrderTooLarge,
    PricedLine,
    RejectionReason,
    UnknownProducts,
)
from tenfold import Money, Struct

__all__ = [
    "OrderRecord",
    "Placement",
    "decide_end",
    "decide_invoice",
    "decide_order",
    "merge_lines",
    "order_of",
]


class Placement(Struct):
    """Who places an order, under which id, and when."""

    order_id: UUID
    customer_id: str
    placed_at: datetime


class OrderRecord(Struct):
    """An order as the module keeps it. `order_of` makes what others see."""

    id: UUID
    customer_id: str
    lines: list[PricedLine]
    total: Money
    status: OrderStatus
    placed_at: datetime
    reason: RejectionReason | None = None


def merge_lines(lines: Iterable[Line]) -> list[Line]:
    """One line for each product, in the order of first mention, quantities added up."""
    pieces: dict[UUID, int] = {}
    for line in lines:
        pieces[line.product_id] = pieces.get(line.product_id, 0) + line.quantity
    return [Line(product_id=key, quantity=quantity) for key, quantity in pieces.items()]


def decide_order(
    placement: Placement, lines: Sequence[Line], products: Iterable[Product]
) -> OrderRecord:
    """The order for these lines at the prices that the catalog gave.

    Raises: UnknownProducts; MixedCurrencies; OrderTooLarge.
    """
    known = {product.id: product for product in products}
    merged = merge_lines(lines)
    _refuse_unknown((line.product_id for line in merged), known)
    priced = [
        (known[line.product_id], line.quantity, known[line.product_id].price) for line in merged
    ]
    return _record(placement, priced)


def decide_invoice(
    placement: Placement, lines: Sequence[InvoiceLine], products: Iterable[Product]
) -> OrderRecord:
    """The order for an invoice of the past: its lines as they were written, at their own prices.

    Two lines of one product stay two, since their prices may differ.

    Raises: UnknownProducts; MixedCurrencies; OrderTooLarge.
    """
    known = {product.id: product for product in products}
    _refuse_unknown((line.product_id for line in lines), known)
    priced = [(known[line.product_id], line.quantity, line.unit_price) for line in lines]
    return _record(placement, priced)


def order_of(record: OrderRecord) -> Order:
    """What callers see of an order: each line with its price as money."""
    currency = record.total.currency
    return Order(
        id=record.id,
        customer_id=record.customer_id,
        lines=[
            OrderLine(
                product_id=line.product_id,
                sku=line.sku,
                name=line.name,
                quantity=line.quantity,
                unit_price=Money.from_minor(line.unit_minor, currency),
            )
            for line in record.lines
        ],
        total=record.total,
        status=record.status,
        placed_at=record.placed_at,
        reason=record.reason,
    )


def decide_end(
    status: OrderStatus, reason: RejectionReason | None
) -> tuple[OrderStatus, RejectionReason | None] | None:
    """How an order ends when it is paid (`reason` None) or turned down; None where it has ended.

    The first end counts. A repeated or late one changes nothing: a customer who
    was told "rejected" is not sold to afterwards, nor the other way round.
    """
    if status is not OrderStatus.PLACED:
        return None
    return (OrderStatus.CONFIRMED if reason is None else OrderStatus.REJECTED), reason


def _refuse_unknown(wanted: Iterable[UUID], known: Mapping[UUID, Product]) -> None:
    unknown = [product_id for product_id in dict.fromkeys(wanted) if product_id not in known]
    if unknown:
        raise UnknownProducts(product_ids=unknown)


def _record(placement: Placement, priced: Sequence[tuple[Product, int, Money]]) -> OrderRecord:
    currencies = sorted({price.currency for _, _, price in priced})
    if len(currencies) > 1:
        raise MixedCurrencies(currencies=currencies)
    lines = [
        PricedLine(
            product_id=product.id,
            sku=product.sku,
            name=product.name,
            quantity=quantity,
            unit_minor=price.minor,
        )
        for product, quantity, price in priced
    ]
    minor = sum(line.unit_minor * line.quantity for line in lines)
    if minor > MAX_TOTAL_MINOR:
        raise OrderTooLarge(highest=Money.from_minor(MAX_TOTAL_MINOR, currencies[0]))
    return OrderRecord(
        id=placement.order_id,
        customer_id=placement.customer_id,
        lines=lines,
        total=Money.from_minor(minor, currencies[0]),
        status=OrderStatus.PLACED,
        placed_at=placement.placed_at.astimezone(UTC),
    )
