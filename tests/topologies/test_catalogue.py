"""Products and stock from outside."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.topologies.shop_client import Shop

PRICE = {"amount": "2.55", "currency": "GBP"}


def test_a_product_is_added_with_its_name_trimmed(shop: Shop) -> None:
    sku = f"T-{uuid4().hex[:20]}"
    made = shop.post("/v1/products", {"sku": sku, "name": "  Oak lamp ", "price": PRICE})
    assert made.status == 201
    assert set(made.body) == {"id", "sku", "name", "price", "created_at"}
    assert (made.body["sku"], made.body["name"], made.body["price"]) == (sku, "Oak lamp", PRICE)
    assert shop.get(made.headers["location"]).body == made.body
    again = shop.post("/v1/products", {"sku": sku, "name": "Other", "price": PRICE})
    assert again.status == 409
    assert again.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize(
    "change",
    [
        {"sku": ""},
        {"sku": "é"},
        {"name": "   "},
        {"name": "x" * 201},
        {"price": {"amount": "0", "currency": "GBP"}},
        {"price": {"amount": "-1.00", "currency": "GBP"}},
        {"price": {"amount": "1.001", "currency": "GBP"}},
        {"price": {"amount": "1.00", "currency": "XXX"}},
        {"price": {"amount": "99999999999.00", "currency": "GBP"}},
    ],
)
def test_what_is_no_product_is_refused(shop: Shop, change: dict[str, object]) -> None:
    body = {"sku": f"T-{uuid4().hex[:20]}", "name": "Lamp", "price": PRICE} | change
    assert shop.post("/v1/products", body).status == 422


def test_products_are_found_by_words_of_their_names(shop: Shop) -> None:
    word = f"w{uuid4().hex[:10]}"
    for n, name in enumerate(["Crème brûlée dish", "Copper pan", "Copper creme pot"]):
        sku = f"{word}-{n}"
        shop.post("/v1/products", {"sku": sku, "name": f"{name} {word}", "price": PRICE})

    def found(search: str) -> list[str]:
        return [p["sku"] for p in shop.get("/v1/products", search=search).body["items"]]

    assert found(f"{word} copper") == [f"{word}-1", f"{word}-2"]
    assert found(f"CREME {word}") == [f"{word}-0", f"{word}-2"]
    assert found(f"{word} cop po") == [f"{word}-2"]
    assert found(f'{word} AND "') == []
    assert found("-") == []


def test_a_list_is_read_page_by_page_without_gap_or_repeat(shop: Shop) -> None:
    word = f"w{uuid4().hex[:10]}"
    skus = [f"{word}-{n}" for n in range(7)]
    for sku in skus:
        shop.post("/v1/products", {"sku": sku, "name": f"Thing {word}", "price": PRICE})
    seen: list[str] = []
    cursor = None
    while True:
        page = shop.get("/v1/products", search=word, limit=3, cursor=cursor).body
        assert len(page["items"]) <= 3
        seen += [product["sku"] for product in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == skus
    assert shop.get("/v1/products", cursor="nonsense").status == 422
    assert shop.get("/v1/products", limit=0).status == 422


def test_stock_is_received(shop: Shop) -> None:
    lamp = shop.product()
    path = f"/v1/products/{lamp['id']}/stock"
    assert shop.get(path).body == {"free": 0, "reserved": 0, "sold": 0}
    assert shop.post(path, {"quantity": 1_000_000}).body["free"] == 1_000_000
    assert shop.post(path, {"quantity": 74_215}).body["free"] == 1_074_215
    assert shop.post(path, {"quantity": 0}).status == 422
    assert shop.post(path, {"quantity": 1_000_001}).status == 422
    assert shop.post(path, {"quantity": 1.5}).status == 422
    nowhere = f"/v1/products/{uuid4()}/stock"
    assert shop.post(nowhere, {"quantity": 1}).status == 404
    assert shop.get(nowhere).status == 404
