"""What goes out: statuses, headers, problems, the platform's own pages."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    KeyReusedError,
    Outcome,
    OverloadedError,
    StoreUnavailableError,
    TenfoldError,
)
from tenfold.edges.http.app import http_app
from tenfold.edges.http.settings import HttpSettings, ReadinessState
from tests.http.shop import PRODUCT, Caller, ShopEntry, make_product

pytestmark = pytest.mark.anyio
TEA = {"sku": "tea", "name": "Tea", "price": {"amount": "2.55", "currency": "GBP"}}
LINES = {"lines": [{"product_id": str(PRODUCT), "quantity": 2}]}


async def test_what_a_command_made_is_201_with_its_location() -> None:
    response = await Caller().send("POST", "/v1/products", TEA)
    assert response.status == 201
    assert response.headers["location"] == f"/v1/products/{PRODUCT}"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["tenfold-position"] == "shop:1:7"


async def test_a_command_that_returns_nothing_is_204() -> None:
    response = await Caller().send("POST", f"/v1/products/{PRODUCT}/stock", {"quantity": 1})
    assert (response.status, response.body) == (204, b"")
    assert "content-type" not in response.headers


async def test_a_replay_and_a_wait_are_told() -> None:
    headers = {"idempotency-key": "again-again", "prefer": "wait=5"}
    response = await Caller().send("POST", "/v1/orders", LINES, headers)
    assert response.headers["idempotency-replayed"] == "true"
    assert response.headers["preference-applied"] == "wait=5"
    assert response.headers["tenfold-settled"] == "true"


async def test_an_answer_that_is_still_right_is_304() -> None:
    caller, target = Caller(), f"/v1/products/{PRODUCT}"
    tag = (await caller.send("GET", target)).headers["etag"]
    for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = await caller.send("GET", target, None, {"if-none-match": wanted})
        assert (response.status, response.body) == (304, b"")
        assert response.headers["etag"] == tag
    response = await caller.send("GET", target, None, {"if-none-match": '"other"'})
    assert response.status == 200


async def test_how_long_an_answer_may_be_kept() -> None:
    caller, target = Caller(), f"/v1/products/{PRODUCT}"

    async def kept(target: str, **headers: str) -> str:
        return (await caller.send("GET", target, None, headers)).headers["cache-control"]

    assert await kept(target) == "public, max-age=60"
    assert await kept(target, authorization="Bearer x") == "private, max-age=60"
    assert await kept(target, cookie="a=b") == "private, max-age=60"
    assert await kept("/v1/products") == "private, no-cache"
    assert (await caller.send("GET", "/v1/products")).headers["vary"] == "accept"


async def test_head_is_get_without_the_body() -> None:
    caller = Caller()
    get = await caller.send("GET", "/v1/products")
    head = await caller.send("HEAD", "/v1/products")
    assert (head.status, head.body) == (200, b"")
    for name in ("content-length", "etag", "content-type"):
        assert head.headers[name] == get.headers[name]


async def test_a_refusal_is_a_problem_with_its_fields() -> None:
    response = await Caller().send("POST", "/v1/products", {**TEA, "sku": "taken"})
    assert response.status == 409
    body = response.json()
    assert body["title"] == "A product with this SKU exists."
    assert body["code"] == "sku_taken"
    assert body["sku"] == "taken"
    assert body["outcome"] == "not_done"


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyReusedError("The key came with another request."), 422, True),
        (OverloadedError("Too much.", retry_after_s=2.5), 503, True),
        (DeadlineExceededError("Too late.", outcome=Outcome.MAYBE_DONE), 504, True),
        (StoreUnavailableError("/secret/path is full"), 503, False),
        (HandlerFaultError("secret"), 500, False),
        (TenfoldError("secret"), 500, False),
        (ZeroDivisionError("secret"), 500, False),
    ],
)
async def test_every_error_is_a_problem_and_a_fault_keeps_its_text(
    error: BaseException, status: int, told: bool
) -> None:
    caller = Caller()
    caller.entry.fail = error
    response = await caller.send("GET", "/v1/products")
    body = response.json()
    assert (response.status, body["status"]) == (status, status)
    assert (str(error) in response.body.decode()) is told
    assert b"Traceback" not in response.body
    assert b"secret" not in response.body
    if isinstance(error, TenfoldError):
        assert (body["code"], body["outcome"]) == (error.code, error.outcome.value)
    else:
        assert (body["code"], body["outcome"]) == ("http.fault", "maybe_done")
    if status == 503:
        assert int(response.headers["retry-after"]) >= 1


async def test_one_request_too_many_is_503_and_health_still_answers() -> None:
    caller = Caller(HttpSettings(max_concurrent=1))
    caller.entry.block = asyncio.Event()
    first = asyncio.ensure_future(caller.send("GET", "/v1/products"))
    await caller.entry.began.wait()
    second = await caller.send("GET", "/v1/products")
    assert (second.status, second.json()["code"]) == (503, "admit.overloaded")
    assert second.headers["retry-after"] == "1"
    assert (await caller.send("GET", "/_tenfold/live")).status == 200
    caller.entry.block.set()
    assert (await first).status == 200
    assert (await caller.send("GET", "/v1/products")).status == 200


async def test_a_client_that_goes_away_cancels_the_work() -> None:
    entry = ShopEntry()
    entry.block = asyncio.Event()
    product = make_product(HttpSettings(disconnect_check_s=0.0))
    app = http_app(entry, product)
    gone = asyncio.Event()
    sent: list[Any] = []

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/products",
        "raw_path": b"/v1/products",
        "query_string": b"",
        "headers": [],
    }
    request = asyncio.ensure_future(app(scope, receive, send))
    await entry.began.wait()
    gone.set()
    await asyncio.wait_for(request, 5)
    assert entry.cancelled.is_set()
    assert sent == []
    (count,) = product.edge.snapshot()
    assert (count.label, count.outcome) == ("shop.list_products", "cancelled")


async def test_readiness_is_503_until_ready_and_while_draining() -> None:
    for state in ReadinessState:
        response = await Caller(readiness=state).send("GET", "/_tenfold/ready")
        assert response.status == (200 if state is ReadinessState.READY else 503)
        assert response.json() == {"state": state.value}
    assert (
        await Caller(readiness=ReadinessState.DRAINING).send("GET", "/_tenfold/live")
    ).status == 200


async def test_metrics_are_prometheus_text() -> None:
    response = await Caller().send("GET", "/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.body == b"# none\n"


async def test_the_edge_counts_by_operation_and_outcome() -> None:
    caller = Caller()
    await caller.send("GET", "/v1/products")
    await caller.send("GET", "/v1/products?limit=0")
    await caller.send("GET", "/nothing/here")
    counted = {(c.label, c.outcome): c.count for c in caller.product.edge.snapshot()}
    assert counted == {
        ("shop.list_products", "ok"): 1,
        ("shop.list_products", "refused"): 1,
        ("edge", "refused"): 1,
    }


async def test_cors_is_off_unless_origins_are_named() -> None:
    preflight = {"origin": "https://a.example", "access-control-request-method": "POST"}
    response = await Caller().send("OPTIONS", "/v1/products", None, preflight)
    assert not [name for name in response.headers if name.startswith("access-control")]

    caller = Caller(HttpSettings(allowed_origins=("https://a.example",)))
    response = await caller.send("OPTIONS", "/v1/products", None, preflight)
    assert response.status == 204
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in response.headers["access-control-allow-headers"]
    response = await caller.send("POST", "/v1/products", TEA, {"origin": "https://a.example"})
    assert response.status == 201
    assert response.headers["access-control-allow-origin"] == "https://a.example"
    other = {**preflight, "origin": "https://b.example"}
    response = await caller.send("OPTIONS", "/v1/products", None, other)
    assert not [name for name in response.headers if name.startswith("access-control")]
    refused = await caller.send(
        "GET", "/v1/products?limit=0", None, {"origin": "https://a.example"}
    )
    assert refused.headers["access-control-allow-origin"] == "https://a.example"
