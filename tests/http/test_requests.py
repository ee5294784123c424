"""What comes in: arguments, headers, limits; and what is refused, and how."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from tenfold.contracts.envelope import ANONYMOUS
from tenfold.edges.http.settings import HttpSettings
from tests.http.shop import PRODUCT, Caller

pytestmark = pytest.mark.anyio
PRICE = {"amount": "2.55", "currency": "GBP"}
TEA = {"sku": "tea", "name": "Tea", "price": PRICE}
LINES = {"lines": [{"product_id": str(PRODUCT), "quantity": 2}]}
KEY = {"idempotency-key": "12345678"}


def problem(response: Any, status: int, code: str) -> Any:
    assert response.status == status, response.body
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"/problems/{code}"
    assert body["trace_id"] == response.headers["tenfold-trace-id"]
    return body


async def test_path_query_and_body_become_the_arguments_of_the_operation() -> None:
    caller = Caller()
    await caller.send("POST", f"/v1/products/{PRODUCT}/stock", {"quantity": 4})
    await caller.send("GET", "/v1/products?search=green+tea%21&tags=a&tags=b&limit=7")
    await caller.send("DELETE", f"/v1/products/{PRODUCT}?force=true")
    stock, listed, removed = (msgspec.structs.asdict(c.arguments) for c in caller.entry.calls)
    assert stock == {"product_id": PRODUCT, "quantity": 4}
    assert (listed["search"], listed["tags"], listed["limit"]) == ("green tea!", ["a", "b"], 7)
    assert removed == {"product_id": PRODUCT, "force": True}


async def test_messagepack_is_read_and_written() -> None:
    caller = Caller()
    response = await caller.send(
        "POST",
        "/v1/products",
        msgspec.msgpack.encode(TEA),
        {"content-type": "application/msgpack", "accept": "application/msgpack"},
    )
    assert response.status == 201
    assert response.headers["content-type"] == "application/msgpack"
    assert msgspec.msgpack.decode(response.body)["name"] == "Tea"


async def test_a_problem_is_messagepack_where_that_is_asked_for() -> None:
    headers = {"accept": "application/msgpack"}
    response = await Caller().send("GET", "/v1/products/x", None, headers)
    assert response.headers["content-type"] == "application/problem+msgpack"
    assert msgspec.msgpack.decode(response.body)["status"] == 422


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/products?limit=0", "limit"),
        ("/v1/products?limit=x", "limit"),
        ("/v1/products?since=tomorrow", "since"),
        ("/v1/products?since=null", "since"),
        ("/v1/products?limt=3", "limt"),
        ("/v1/products/nonsense", "product_id"),
    ],
)
async def test_a_wrong_value_in_the_target_is_422_and_named(target: str, field: str) -> None:
    body = problem(await Caller().send("GET", target), 422, "call.invalid_arguments")
    assert [error["field"] for error in body["errors"]] == [field]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**TEA, "sku": 5}, "sku"),
        ({"sku": "tea", "price": PRICE}, "name"),
        ({**TEA, "price": {"amount": "2.555", "currency": "GBP"}}, "price"),
        ({**TEA, "price": {"amount": "2", "currency": "gbp"}}, "price.currency"),
        *(
            ({**TEA, "price": {"amount": amount, "currency": "GBP"}}, "price.amount")
            for amount in ("1_0.00", " 2.50", "+2.50", "٣.٥٠", "1e2", "2.50\n", "2.00000", 2.5, 2)
        ),
        *(
            ({**TEA, "price": {"amount": amount, "currency": "GBP"}}, "price")
            for amount in ("1E1000000", "1E+999999999999999999", "-1E1000000")
        ),
        ({**TEA, "colour": "green"}, "colour"),
        ("text", "body"),
    ],
)
async def test_a_wrong_value_in_the_body_is_422_and_named(body: Any, field: str) -> None:
    answer = problem(
        await Caller().send("POST", "/v1/products", body), 422, "call.invalid_arguments"
    )
    assert [error["field"] for error in answer["errors"]] == [field]


async def test_a_wrong_value_deep_inside_is_named_with_its_place() -> None:
    lines = [LINES["lines"][0], {"product_id": str(PRODUCT), "quantity": 0}]
    response = await Caller().send("POST", "/v1/orders", {"lines": lines}, KEY)
    body = problem(response, 422, "call.invalid_arguments")
    assert body["errors"][0]["field"] == "lines.1.quantity"


async def test_an_unknown_field_is_told_with_the_nearest_right_name() -> None:
    response = await Caller().send("POST", "/v1/products", {**TEA, "prize": 3})
    assert "did you mean 'price'?" in response.json()["errors"][0]["detail"]


async def test_a_scalar_given_twice_is_400_and_named() -> None:
    for target in ("/v1/products?limit=4&limit=4", "/v1/products?search=a&search=b"):
        body = problem(await Caller().send("GET", target), 400, "http.unreadable")
        assert body["errors"][0]["detail"] == "given more than once"


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff\xfe", b'{"note": NaN}', b'{"note":1}x', b'"' + b"\xff" * 9]
)
async def test_a_body_that_is_not_json_is_400(raw: bytes) -> None:
    headers = {"content-type": "application/json"}
    problem(await Caller().send("PUT", "/v1/notes", raw, headers), 400, "http.unreadable")


@pytest.mark.parametrize(
    "raw", [b"\xc1", b"\x82\xa4note", b"\x81\xa4note\xa1\xff", b"\xdf\xff\xff"]
)
async def test_a_body_that_is_not_messagepack_is_400(raw: bytes) -> None:
    headers = {"content-type": "application/msgpack"}
    problem(await Caller().send("PUT", "/v1/notes", raw, headers), 400, "http.unreadable")


@pytest.mark.parametrize("levels", [100, 900, 100_000])
async def test_a_deeply_nested_body_is_400(levels: int) -> None:
    caller = Caller()
    raw = b'{"note":' + b"[" * levels + b"]" * levels + b"}"
    response = await caller.send("PUT", "/v1/notes", raw, {"content-type": "application/json"})
    problem(response, 400, "http.unreadable")
    packed = b"\x81\xa4note" + b"\x91" * levels + b"\x00"
    response = await caller.send(
        "PUT", "/v1/notes", packed, {"content-type": "application/msgpack"}
    )
    problem(response, 400, "http.unreadable")
    assert caller.entry.calls == []


async def test_an_empty_body_is_enough_where_the_path_says_it_all() -> None:
    caller = Caller()
    response = await caller.send("POST", f"/v1/products/{PRODUCT}/hide")
    assert response.status == 204
    assert caller.entry.calls[0].arguments.product_id == PRODUCT  # type: ignore[attr-defined]
    problem(await caller.send("POST", "/v1/products"), 400, "http.unreadable")


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/json; charset=latin-1", "application/xml"]
)
async def test_a_body_in_another_form_is_415(content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    response = await Caller().send("PUT", "/v1/notes", b'{"note":1}', headers)
    problem(response, 415, "http.unsupported_media_type")
    assert "application/json" in response.headers["accept"]


async def test_a_caller_who_accepts_neither_form_is_told_406() -> None:
    caller = Caller()
    response = await caller.send("GET", "/v1/products", None, {"accept": "text/html"})
    problem(response, 406, "http.not_acceptable")
    assert caller.entry.calls == []


async def test_an_unknown_path_is_404_and_another_method_405_with_allow() -> None:
    caller = Caller()
    for target in ("/", "/v1", "/v1/products/", "/v2/products", "/_tenfold/other", "/V1/products"):
        problem(await caller.send("GET", target), 404, "http.not_found")
    response = await caller.send("PATCH", f"/v1/products/{PRODUCT}")
    problem(response, 405, "http.method_not_allowed")
    assert response.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    problem(await caller.send("POST", "/openapi.json"), 405, "http.method_not_allowed")


async def test_options_names_the_methods() -> None:
    response = await Caller().send("OPTIONS", "/v1/products")
    assert (response.status, response.body) == (204, b"")
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_percent_encoded_segments_are_decoded_once() -> None:
    caller = Caller()
    response = await caller.send("GET", "/v1/%70roducts/" + str(PRODUCT).replace("-", "%2D"))
    assert response.status == 200
    problem(await caller.send("GET", "/v1/products/%ff"), 400, "http.unreadable")
    problem(await caller.send("GET", "/v1/products?search=%ff"), 400, "http.unreadable")
    # An encoded slash is part of the value, not another segment.
    body = problem(await caller.send("GET", "/v1/products/a%2Fb"), 422, "call.invalid_arguments")
    assert body["errors"][0]["field"] == "product_id"


async def test_a_literal_segment_goes_before_a_parameter() -> None:
    caller = Caller()
    await caller.send("GET", "/v1/products/newest")
    assert caller.entry.calls[0].operation.name == "newest_product"


async def test_limits_of_size_are_413_414_and_431() -> None:
    caller = Caller(HttpSettings(max_body_bytes=100, max_target_bytes=100, max_headers=5))
    big = b'{"note":"' + b"x" * 200 + b'"}'
    json_type = {"content-type": "application/json"}
    problem(await caller.send("PUT", "/v1/notes", big, json_type), 413, "http.body_too_large")
    streamed = await caller.send("PUT", "/v1/notes", [b"x" * 60, b"x" * 60, b"x"], json_type)
    problem(streamed, 413, "http.body_too_large")
    declared = await caller.send("PUT", "/v1/notes", b"", {**json_type, "content-length": "9" * 30})
    problem(declared, 413, "http.body_too_large")
    problem(await caller.send("GET", "/" + "a" * 200), 414, "http.target_too_long")
    many = {f"x-{n}": "1" for n in range(6)}
    problem(await caller.send("GET", "/v1/products", None, many), 431, "http.headers_too_large")
    caller = Caller(HttpSettings(max_header_bytes=100))
    long = {"x-long": "1" * 100}
    problem(await caller.send("GET", "/v1/products", None, long), 431, "http.headers_too_large")
    assert caller.entry.calls == []


async def test_headers_reach_the_path() -> None:
    caller = Caller()
    trace = "a" * 32
    await caller.send(
        "POST",
        "/v1/orders",
        LINES,
        {
            "idempotency-key": "k" * 255,
            "prefer": "respond-async, wait=999",
            "traceparent": f"00-{trace}-{'b' * 16}-01",
            "tenfold-position": "orders.1.5",
        },
    )
    (call,) = caller.entry.calls
    assert call.idempotency_key == "k" * 255
    assert call.wait_s == 60.0
    assert call.position == "orders.1.5"
    assert call.trace is not None
    assert (call.trace.trace_id, call.trace.sampled) == (trace, True)
    assert call.trace.span_id != "b" * 16
    assert not call.internal


@pytest.mark.parametrize("key", ["", "k" * 256, "with space", "tab\tbed-key", "ümlaut-key"])
async def test_a_malformed_idempotency_key_is_400(key: str) -> None:
    response = await Caller().send("POST", "/v1/orders", LINES, {"idempotency-key": key})
    body = problem(response, 400, "http.unreadable")
    assert body["errors"][0]["field"] == "Idempotency-Key"


@pytest.mark.parametrize("key", ["k", "k1", "!", "~" * 255, "0b7e4f3a-8f0e-4a64-9d0c-6a4d4a2a9f11"])
async def test_an_idempotency_key_may_be_short(key: str) -> None:
    caller = Caller()
    response = await caller.send("POST", "/v1/orders", LINES, {"idempotency-key": key})
    assert response.status == 200
    assert caller.entry.calls[0].idempotency_key == key


async def test_two_idempotency_keys_are_400() -> None:
    headers = [("idempotency-key", "key-number-1"), ("idempotency-key", "key-number-2")]
    problem(await Caller().send("POST", "/v1/orders", LINES, headers), 400, "http.unreadable")


async def test_a_command_that_requires_a_key_says_so() -> None:
    body = problem(await Caller().send("POST", "/v1/orders", LINES), 400, "http.unreadable")
    assert body["errors"] == [{"field": "Idempotency-Key", "detail": "is required and missing"}]


@pytest.mark.parametrize("header", ["nonsense", "00-" + "0" * 32 + "-" + "b" * 16 + "-01", ""])
async def test_an_invalid_traceparent_is_ignored(header: str) -> None:
    response = await Caller().send("GET", "/v1/products", None, {"traceparent": header})
    assert response.status == 200
    assert len(response.headers["tenfold-trace-id"]) == 32


async def test_a_query_string_where_a_body_belongs_is_refused() -> None:
    response = await Caller().send("POST", "/v1/products?sku=tea", TEA)
    assert problem(response, 400, "http.unreadable")["errors"][0]["field"] == "sku"


async def test_a_page_of_another_origin_cannot_send_a_command() -> None:
    caller = Caller()
    headers = {"origin": "https://evil.example", "host": "127.0.0.1:8000"}
    target = f"/v1/products/{PRODUCT}/hide"
    problem(await caller.send("POST", target, None, headers), 403, "http.cross_origin")
    assert caller.entry.calls == []
    same = {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000"}
    assert (await caller.send("POST", target, None, same)).status == 204


async def test_another_host_name_is_refused_where_hosts_are_named() -> None:
    caller = Caller(HttpSettings(allowed_hosts=("localhost", "[::1]")))
    for host in ("localhost:8000", "localhost", "[::1]:8000", "[::1]"):
        assert (await caller.send("GET", "/v1/products", None, {"host": host})).status == 200
    for host in ("evil.example:8000", "localhost.evil.example", ""):
        response = await caller.send("GET", "/v1/products", None, {"host": host})
        problem(response, 421, "http.misdirected")


async def test_who_may_call_is_the_principals_matter() -> None:
    caller = Caller(principal_of=lambda _: ANONYMOUS)
    response = await caller.send("POST", "/v1/products", TEA)
    problem(response, 403, "admit.not_permitted")


async def test_an_internal_operation_has_no_route() -> None:
    caller = Caller()
    assert "shop.recount" in caller.product.operations
    assert "shop.recount" not in caller.product.routed()
    assert "recount" not in str((await caller.send("GET", "/openapi.json")).json())


async def test_random_identifiers_are_not_found_by_the_product_itself() -> None:
    other = UUID(int=PRODUCT.int + 1)
    response = await Caller().send("GET", f"/v1/products/{other}")
    assert problem(response, 404, "product_not_found")["product_id"] == str(other)


async def test_a_whole_number_may_be_written_with_a_point() -> None:
    caller = Caller()
    raw = b'{"quantity": 4.0}'
    target, headers = f"/v1/products/{PRODUCT}/stock", {"content-type": "application/json"}
    assert (await caller.send("POST", target, raw, headers)).status == 204
    assert caller.entry.calls[0].arguments.quantity == 4  # type: ignore[attr-defined]
    body = problem(
        await caller.send("POST", target, b'{"quantity": 4.5}', headers),
        422,
        "call.invalid_arguments",
    )
    assert body["errors"][0]["field"] == "quantity"


async def test_what_follows_a_whole_number_is_still_checked() -> None:
    target, headers = f"/v1/products/{PRODUCT}/stock", {"content-type": "application/json"}
    for rest in (b"garbage", b'"x":' + b"[" * 5000, b'"x":' + b"[" * 900 + b"]" * 900 + b"}"):
        response = await Caller().send("POST", target, b'{"quantity": 4.0, ' + rest, headers)
        assert response.status in (400, 422), response.body


async def test_an_argument_named_like_a_python_keyword_loses_its_underscore() -> None:
    caller = Caller()
    await caller.send("GET", "/v1/sales?from=2026-01-01&to=2026-02-01")
    await caller.send("POST", "/v1/moves", {"from": "here", "to": "there"})
    sales, move = (call.arguments for call in caller.entry.calls)
    assert type(sales) is caller.entry.calls[0].operation.arguments
    assert str(msgspec.structs.asdict(sales)["from"]) == "2026-01-01"
    assert msgspec.structs.asdict(move) == {"from": "here", "to": "there"}
    body = problem(await caller.send("GET", "/v1/sales?from=x"), 422, "call.invalid_arguments")
    assert body["errors"][0]["field"] == "from"
    paths = (await caller.send("GET", "/openapi.json")).json()["paths"]
    assert [p["name"] for p in paths["/v1/sales"]["get"]["parameters"]][:2] == ["from", "to"]
