"""What is kept from events: a customer's orders, best sellers, daily sales."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from tests.topologies.shop_client import Shop, eventually


def test_a_customers_orders_come_newest_first_and_page_by_page(shop: Shop) -> None:
    buyer, lamp = f"c{uuid4().hex[:12]}", shop.product(stock=100)
    placed = [shop.settled_order(buyer, (lamp, 1))["id"] for _ in range(5)]
    path = f"/v1/customers/{buyer}/orders"

    def all_confirmed() -> list[Any] | None:
        items = shop.get(path).body["items"]
        states = [order["status"] for order in items]
        return items if states == ["confirmed"] * 5 else None

    assert [order["id"] for order in eventually(all_confirmed)] == placed[::-1]
    first = shop.get(path, limit=3).body
    rest = shop.get(path, limit=3, cursor=first["next"]).body
    assert [order["id"] for order in first["items"] + rest["items"]] == placed[::-1]
    assert rest["next"] is None


def test_best_sellers_count_pieces_and_revenue_of_confirmed_orders(shop: Shop) -> None:
    most = shop.product("0.01", stock=1_000_000)
    shop.settled_order("17850", (most, 900_000))
    shop.settled_order("declined", (most, 50_000))

    def best() -> dict[str, Any] | None:
        items = shop.get("/v1/insights/best-sellers", limit=1).body["items"]
        return items[0] if items and items[0]["product_id"] == most["id"] else None

    assert eventually(best) == {
        "product_id": most["id"],
        "sku": most["sku"],
        "name": most["name"],
        "quantity": 900_000,
        "revenue": {"amount": "9000.00", "currency": "GBP"},
    }


def test_daily_sales_have_one_row_for_each_day_and_currency(shop: Shop) -> None:
    currency = "BHD"
    dear = shop.product("1.005", stock=10, currency=currency)

    def today() -> tuple[int, Decimal, str] | None:
        rows = [
            row
            for row in shop.get("/v1/insights/daily-sales").body["items"]
            if row["revenue"]["currency"] == currency
        ]
        if not rows:
            return None
        assert len(rows) == 1
        return rows[0]["orders"], Decimal(rows[0]["revenue"]["amount"]), rows[0]["date"]

    before = today() or (0, Decimal(0), "")
    order = shop.settled_order("17850", (dear, 3))
    day = order["placed_at"][:10]
    expected = (before[0] + 1, before[1] + Decimal("3.015"), day)
    assert eventually(lambda: today() == expected or None)
    within = shop.get("/v1/insights/daily-sales", from_=day, to=day).body["items"]
    assert {row["date"] for row in within} == {day}
    after = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
    assert shop.get("/v1/insights/daily-sales", from_=after).body["items"] == []
    assert shop.get("/v1/insights/daily-sales", from_="yesterday").status == 422
