"""How the store's HTTP interface behaves beyond what it sells."""

from __future__ import annotations

import json
import re
from functools import partial
from uuid import uuid4

import pytest

from tests.topologies.shop_client import Shop, eventually

PRICE = {"amount": "2.55", "currency": "GBP"}


def test_every_operation_that_is_promised_is_served(shop: Shop) -> None:
    document = shop.get("/openapi.json").body
    served = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert document["openapi"].startswith("3.1")
    assert {
        ("POST", "/v1/products"),
        ("GET", "/v1/products/{product_id}"),
        ("GET", "/v1/products"),
        ("POST", "/v1/products/{product_id}/stock"),
        ("GET", "/v1/products/{product_id}/stock"),
        ("POST", "/v1/orders"),
        ("GET", "/v1/orders/{order_id}"),
        ("GET", "/v1/customers/{customer_id}/orders"),
        ("GET", "/v1/insights/best-sellers"),
        ("GET", "/v1/insights/daily-sales"),
        ("GET", "/v1/mail"),
    } <= served


@pytest.mark.parametrize(
    "path",
    [
        "/v1/products",
        "/v1/customers/nobody/orders",
        "/v1/insights/best-sellers",
        "/v1/insights/daily-sales",
        "/v1/mail",
    ],
)
def test_every_list_is_items_and_next(shop: Shop, path: str) -> None:
    assert set(shop.get(path).body) == {"items", "next"}


@pytest.mark.parametrize(
    "path", ["/v1/products", "/v1/customers/nobody/orders", "/v1/insights/best-sellers", "/v1/mail"]
)
def test_the_length_of_a_page_is_bounded(shop: Shop, path: str) -> None:
    assert len(shop.get(path, limit=1).body["items"]) <= 1
    for limit in (0, -1, 1_000_000, "many"):
        problem = shop.get(path, limit=limit)
        assert problem.status == 422
        assert problem.body["errors"][0]["field"] == "limit"


def test_an_unchanged_product_is_not_sent_again(shop: Shop) -> None:
    path = f"/v1/products/{shop.product()['id']}"
    first = shop.get(path)
    tag = first.headers["etag"]
    assert "max-age" in first.headers["cache-control"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = shop.send("GET", path, headers={"If-None-Match": known})
        assert (again.status, again.body) == (304, None)
        assert again.headers["etag"] == tag
    assert shop.send("GET", path, headers={"If-None-Match": '"other"'}).status == 200


def test_changed_stock_has_another_tag(shop: Shop) -> None:
    product = shop.product(stock=1)
    path = f"/v1/products/{product['id']}/stock"
    tag = shop.get(path).headers["etag"]
    shop.post(path, {"quantity": 1})
    changed = shop.send("GET", path, headers={"If-None-Match": tag})
    assert (changed.status, changed.body["free"]) == (200, 2)


def test_head_is_get_without_the_body(shop: Shop) -> None:
    path = f"/v1/products/{shop.product()['id']}"
    got, head = shop.get(path), shop.send("HEAD", path)
    assert (head.status, head.body) == (200, None)
    for name in ("etag", "content-type", "content-length", "cache-control"):
        assert head.headers[name] == got.headers[name]
    assert shop.send("HEAD", f"/v1/products/{uuid4()}").status == 404


def test_the_methods_of_a_path_are_told(shop: Shop) -> None:
    options = shop.send("OPTIONS", "/v1/products")
    assert options.status == 204
    assert set(options.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    refused = shop.send("DELETE", "/v1/products")
    assert refused.status == 405
    assert refused.headers["allow"] == options.headers["allow"]
    assert refused.body["code"] == "http.method_not_allowed"


def test_a_path_that_is_no_route_is_a_problem_for_programs_and_a_page_for_people(
    shop: Shop,
) -> None:
    program = shop.get("/v1/nothing")
    assert (program.status, program.body["status"]) == (404, 404)
    assert program.headers["content-type"].startswith("application/problem+json")
    page = shop.send("GET", "/v1/nothing", headers={"Accept": "text/html"})
    assert page.status == 404
    assert page.headers["content-type"].startswith("text/html")


def test_forms_that_are_not_spoken_are_refused(shop: Shop) -> None:
    body = json.dumps({"sku": "s", "name": "n", "price": PRICE}).encode()
    refused = shop.send("GET", "/v1/products", headers={"Accept": "application/xml"})
    assert refused.status == 406
    refused = shop.send("POST", "/v1/products", body, {"Content-Type": "text/plain"})
    assert refused.status == 415
    assert "application/json" in refused.headers["accept"]
    whole = json.dumps({"sku": "s", "name": "n" * 2_000_000, "price": PRICE}).encode()
    refused = shop.send("POST", "/v1/products", whole, {"Content-Type": "application/json"})
    assert refused.status == 413


def test_every_problem_names_itself_its_field_and_its_trace(shop: Shop) -> None:
    trace = f"{uuid4().hex}"
    refused = shop.send(
        "POST",
        "/v1/products",
        json.dumps({"sku": "s", "name": "", "price": PRICE}).encode(),
        {"Content-Type": "application/json", "traceparent": f"00-{trace}-{'b' * 16}-01"},
    )
    assert refused.status == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.body["errors"][0]["field"] == "name"
    assert refused.body["outcome"] == "not_done"
    assert refused.body["trace_id"] == refused.headers["tenfold-trace-id"] == trace
    page = shop.get(refused.body["type"])
    assert page.status == 200, "the type of a problem leads to its description"


def test_a_key_of_one_character_is_a_key(shop: Shop) -> None:
    customer, lamp = f"c{uuid4().hex[:12]}", shop.product(stock=10)
    # Keys are one space for the caller and the operation, so these must be new to the store.
    key = uuid4().hex[:2] + "!"
    first = shop.order(customer, (lamp, 1), Idempotency_Key=key)
    again = shop.order(customer, (lamp, 1), Idempotency_Key=key)
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert again.headers["idempotency-replayed"] == "true"
    assert shop.order(customer, (lamp, 2), Idempotency_Key=key).status == 422
    assert len(shop.get(f"/v1/customers/{customer}/orders").body["items"]) <= 1
    for malformed in ("", "with space", "k" * 256):
        assert shop.order(customer, (lamp, 1), Idempotency_Key=malformed).status == 400


def test_a_caller_who_waits_is_told_that_it_was_settled(shop: Shop) -> None:
    lamp = shop.product(stock=1)
    first = shop.order("waits", (lamp, 1), Prefer="respond-async, wait=10")
    assert (first.status, first.body["status"]) == (201, "confirmed")
    assert first.headers["preference-applied"] == "wait=10"
    second = shop.order("waits", (lamp, 1), Prefer="wait=10")
    assert (second.body["status"], second.body["reason"]) == ("rejected", "out_of_stock")
    declined = shop.order("declined", (shop.product(stock=1), 1), Prefer="wait=10")
    assert (declined.body["status"], declined.body["reason"]) == ("rejected", "payment_declined")


def test_what_a_caller_wrote_it_reads_from_projections_too(shop: Shop) -> None:
    customer, lamp = f"c{uuid4().hex[:12]}", shop.product(stock=10)
    for placed in range(1, 6):
        position = shop.order(customer, (lamp, 1)).headers["tenfold-position"]
        orders = eventually(partial(orders_as_of, shop, customer, position))
        assert len(orders) == placed


def orders_as_of(shop: Shop, customer: str, position: str) -> list[object] | None:
    """What is told as of then: it is waited for within a bound, and said where that was short."""
    headers = {"Tenfold-Position": position}
    told = shop.send("GET", f"/v1/customers/{customer}/orders", headers=headers)
    if "tenfold-behind" in told.headers:
        return None
    items: list[object] = told.body["items"]
    return items


def test_the_platform_tells_how_it_is(shop: Shop) -> None:
    assert shop.get("/_tenfold/live").status == 200
    assert shop.get("/_tenfold/ready").body == {"state": "ready"}
    metrics = shop.send("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    stops = ("edge", "admit", "handle", "unit_of_work", "outbox", "relay", "queue")

    def all_told() -> object | None:
        """Of several processes those tell that are not too busy for it just now."""
        text = shop.send("GET", "/metrics").text
        told = all(f"tenfold_{s}" in text or f'stop="{s}"' in text for s in stops)
        # Whoever hosts the module reads its queue, and whoever is asked tells of it.
        return (told and re.search(r'tenfold_queue_entries\{.*module="orders"', text)) or None

    assert eventually(all_told)
    docs = shop.send("GET", "/docs")
    assert docs.status == 200
    assert "https://" not in docs.text.replace("https://www.w3.org", "").split("<main")[0]
