"""An order from outside: placed, confirmed or rejected, told of once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from tests.topologies.shop_client import Shop, eventually


def customer() -> str:
    return f"c{uuid4().hex[:12]}"


def test_an_order_is_placed_then_confirmed_and_its_stock_sold(shop: Shop) -> None:
    lamp, mug = shop.product("2.55", stock=10), shop.product("10.00", stock=5)
    placed = shop.order("17850", (lamp, 6), (mug, 2))
    assert placed.status == 201
    assert placed.headers["location"] == f"/v1/orders/{placed.body['id']}"
    assert placed.body["status"] == "placed"
    assert placed.body["customer_id"] == "17850"
    assert placed.body["total"] == {"amount": "35.30", "currency": "GBP"}
    lines = [(line["product_id"], line["quantity"]) for line in placed.body["lines"]]
    assert lines == [(lamp["id"], 6), (mug["id"], 2)]

    def confirmed() -> bool | None:
        seen = shop.get(placed.headers["location"]).body
        return True if seen["status"] == "confirmed" else None

    assert eventually(confirmed)
    assert eventually(lambda: shop.stock(lamp)["reserved"] == 0 or None)
    assert shop.stock(lamp) == {"free": 4, "reserved": 0, "sold": 6}
    assert shop.stock(mug) == {"free": 3, "reserved": 0, "sold": 2}


def test_lines_of_one_product_become_one(shop: Shop) -> None:
    lamp = shop.product(stock=10)
    placed = shop.order(customer(), (lamp, 1), (lamp, 2))
    assert [line["quantity"] for line in placed.body["lines"]] == [3]


def test_a_caller_may_wait_for_the_outcome(shop: Shop) -> None:
    lamp = shop.product(stock=1)
    placed = shop.order(customer(), (lamp, 1), Prefer="wait=10")
    assert placed.status == 201
    assert placed.body["status"] == "confirmed"


def test_an_order_that_the_stock_does_not_cover_is_rejected_whole(shop: Shop) -> None:
    plenty, scarce = shop.product(stock=100), shop.product(stock=1)
    ended = shop.settled_order(customer(), (plenty, 5), (scarce, 2))
    assert (ended["status"], ended["reason"]) == ("rejected", "out_of_stock")
    assert shop.stock(plenty) == {"free": 100, "reserved": 0, "sold": 0}


def test_a_declined_payment_rejects_the_order_and_frees_its_stock(shop: Shop) -> None:
    lamp = shop.product(stock=3)
    ended = shop.settled_order("declined", (lamp, 3))
    assert (ended["status"], ended["reason"]) == ("rejected", "payment_declined")
    assert eventually(lambda: shop.stock(lamp) == {"free": 3, "reserved": 0, "sold": 0} or None)
    assert shop.get("/v1/mail", customer_id="declined").body["items"] == []


def test_a_confirmed_order_is_told_of_once(shop: Shop) -> None:
    buyer, lamp = customer(), shop.product(stock=3)
    orders = {shop.settled_order(buyer, (lamp, 1))["id"] for _ in range(3)}

    def mails() -> list[Any] | None:
        items = shop.get("/v1/mail", customer_id=buyer).body["items"]
        return items if len(items) >= 3 else None

    assert sorted(mail["order_id"] for mail in eventually(mails)) == sorted(orders)


def test_a_replayed_key_gives_the_first_reply(shop: Shop) -> None:
    lamp, key = shop.product(stock=10), str(uuid4())
    first = shop.order("17850", (lamp, 1), Idempotency_Key=key)
    again = shop.order("17850", (lamp, 1), Idempotency_Key=key)
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["location"] == first.headers["location"]
    other = shop.order("17850", (lamp, 2), Idempotency_Key=key)
    assert other.status == 422


def test_one_key_sent_many_times_at_once_makes_one_order(shop: Shop) -> None:
    buyer, lamp, key = customer(), shop.product(stock=100), str(uuid4())
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(lambda _: shop.order(buyer, (lamp, 1), Idempotency_Key=key), range(16))
        )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.body["id"] for reply in replies}) == 1


def test_what_cannot_be_ordered_is_refused_and_says_why(shop: Shop) -> None:
    pounds, euros = shop.product(stock=1), shop.product(currency="EUR", stock=1)
    nowhere = {"id": str(uuid4())}
    unknown = shop.order(customer(), (nowhere, 1))
    assert unknown.status == 422
    assert nowhere["id"] in str(unknown.body)
    assert shop.order(customer(), (pounds, 1), (euros, 1)).status == 422
    assert shop.order(customer()).status == 422
    assert shop.order(customer(), (pounds, 0)).status == 422
    assert shop.order("", (pounds, 1)).status == 422
    assert shop.get(f"/v1/orders/{uuid4()}").status == 404


def test_the_last_pieces_are_sold_once(shop: Shop) -> None:
    lamp = shop.product(stock=10)
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda _: shop.settled_order(customer(), (lamp, 1)), range(25)))
    counts = Counter((end["status"], end.get("reason")) for end in ends)
    assert counts == {("confirmed", None): 10, ("rejected", "out_of_stock"): 15}, ends
    assert eventually(lambda: shop.stock(lamp) == {"free": 0, "reserved": 0, "sold": 10} or None)
