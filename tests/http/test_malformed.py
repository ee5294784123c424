"""The real store, spoken to wrongly: it answers with a clear 4xx, and stays up."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
import pytest

from tests.faults.store_process import STORE
from tests.http.serving import talk
from tests.http.store_fixture import RunningStore, running_store

HEAD = b"Host: 127.0.0.1\r\n"
PRICE = {"amount": "2.55", "currency": "GBP"}
_HURRIED = """
[topologies.hurried.http]
body_timeout_s = 0.4
header_timeout_s = 0.4

[topologies.hurried.settings.payments]
provider = "test"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    """The store with little patience for slow clients; it must be well when all is over."""
    folder = tmp_path_factory.mktemp("malformed")
    file = folder / "tenfold.toml"
    file.write_text((STORE / "tenfold.toml").read_text() + _HURRIED)
    settings = {"TENFOLD_PRODUCT": str(file), "TENFOLD_TOPOLOGY": "hurried"}
    with running_store(folder / "data", settings) as running:
        yield running
        running.is_well()


@pytest.fixture
def connection(store: RunningStore) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", store.port, timeout=20)
    yield connection
    connection.close()


def send(
    connection: HTTPConnection,
    method: str,
    target: str,
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, Any]:
    """Send one request; a body is JSON unless said otherwise."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        named.setdefault("content-type", "application/json")
    connection.request(method, target, body, named)
    answer = connection.getresponse()
    raw = answer.read()
    is_json = "json" in answer.headers.get("content-type", "")
    return answer.status, msgspec.json.decode(raw) if raw and is_json else raw


def refused(answer: tuple[int, Any], *statuses: int) -> Any:
    """Assert a clear no: its status, and a problem that says what is wrong."""
    status, body = answer
    assert status in (statuses or range(400, 500)), answer
    assert body["status"] == status
    assert body["outcome"] == "not_done"
    assert body["code"]
    assert len(body["detail"]) > 10
    assert "Traceback" not in str(body)
    return body


ORDER = {"customer_id": "c", "lines": [{"product_id": str(uuid4()), "quantity": 1}]}
PRODUCT = {"sku": "S", "name": "N", "price": PRICE}
WRONG = [None, True, 0, -1, 1.5, "x", "", [], {}, [[]], {"a": 1}]
_FIELDS: list[tuple[str, dict[str, Any], tuple[str | int, ...], set[str]]] = [
    # What may stand there after all: an `x` is a fine name.
    ("/v1/products", PRODUCT, ("sku",), {"'x'"}),
    ("/v1/products", PRODUCT, ("name",), {"'x'"}),
    ("/v1/products", PRODUCT, ("price",), set()),
    ("/v1/products", PRODUCT, ("price", "amount"), {"0", "-1", "1.5"}),
    ("/v1/products", PRODUCT, ("price", "currency"), set()),
    (f"/v1/products/{uuid4()}/stock", {"quantity": 1}, ("quantity",), set()),
    ("/v1/orders", ORDER, ("customer_id",), {"'x'"}),
    ("/v1/orders", ORDER, ("lines",), set()),
    ("/v1/orders", ORDER, ("lines", 0), set()),
    ("/v1/orders", ORDER, ("lines", 0, "product_id"), set()),
    ("/v1/orders", ORDER, ("lines", 0, "quantity"), set()),
]


def replaced(body: Any, place: tuple[str | int, ...], value: Any) -> Any:
    whole = msgspec.json.decode(msgspec.json.encode(body))
    inner = whole
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("target", "body", "place", "allowed"),
    _FIELDS,
    ids=[f"{target.split('/')[-1]}-{'.'.join(map(str, place))}" for target, _, place, _ in _FIELDS],
)
def test_a_wrong_type_is_422_and_names_the_field(
    connection: HTTPConnection,
    target: str,
    body: dict[str, Any],
    place: tuple[str | int, ...],
    allowed: set[str],
) -> None:
    for value in WRONG:
        if repr(value) in allowed:
            continue
        raw = msgspec.json.encode(replaced(body, place, value))
        problem = refused(send(connection, "POST", target, raw), 422)
        field = problem["errors"][0]["field"]
        assert field.startswith(str(place[0])), (value, problem)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{]",
        b'{"sku":"a",}',
        b'{"sku": NaN}',
        b"nonsense",
        b'{"sku":"\xff\xfe"}',
        b"\xef\xbb\xbf{}",
        '{"sku":"a"}'.encode("utf-16"),
        b'{"sku":"\\ud800"}',
        b"\x00" * 10,
        b"{}{}",
    ],
)
def test_what_is_no_json_is_refused(connection: HTTPConnection, body: bytes) -> None:
    refused(send(connection, "POST", "/v1/products", body), 400, 422)


@pytest.mark.parametrize("body", [b"null", b"1", b'"x"', b"[]", b"true", b"{}", b"[{}]"])
def test_json_that_is_no_product_is_refused(connection: HTTPConnection, body: bytes) -> None:
    refused(send(connection, "POST", "/v1/products", body), 422)


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"\x81\xa3sku",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x81\xa3sku\xa2\xff\xfe",
        b"\x81\xa3sku\xd4\x05\x00",
        b"\x91" * 50_000,
        b"\x81\xa1a" * 50_000,
    ],
)
def test_what_is_no_messagepack_is_refused(connection: HTTPConnection, body: bytes) -> None:
    answer = send(connection, "POST", "/v1/products", body, content_type="application/msgpack")
    refused(answer, 400, 422)


@pytest.mark.parametrize("number", ["1e400", "-0", "9" * 400, "1e-400", "18446744073709551616"])
def test_numbers_beyond_all_measure_are_refused(connection: HTTPConnection, number: str) -> None:
    stock = f"/v1/products/{uuid4()}/stock"
    refused(send(connection, "POST", stock, f'{{"quantity":{number}}}'.encode()), 400, 422)
    price = f'{{"sku":"s","name":"n","price":{{"amount":{number},"currency":"GBP"}}}}'
    refused(send(connection, "POST", "/v1/products", price.encode()), 400, 422)


@pytest.mark.parametrize(
    "body",
    [
        msgspec.json.encode({**PRODUCT, "name": "x" * 900_000}),
        msgspec.json.encode({**PRODUCT, "sku": "x" * 900_000}),
        msgspec.json.encode({**PRODUCT, **{f"k{n}": n for n in range(20_000)}, "name": ""}),
        b'{"sku":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"other":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'"' + b"x" * 1_000_000 + b'"',
    ],
    ids=["name", "sku", "keys", "depth", "depth-elsewhere", "objects", "text"],
)
def test_much_of_the_wrong_is_refused(connection: HTTPConnection, body: bytes) -> None:
    refused(send(connection, "POST", "/v1/products", body), 400, 422)


def test_too_many_lines_are_refused(connection: HTTPConnection) -> None:
    line = {"product_id": str(uuid4()), "quantity": 1}
    body = msgspec.json.encode({"customer_id": "c", "lines": [line] * 12_000})
    refused(send(connection, "POST", "/v1/orders", body), 413, 422)


def test_a_body_beyond_the_limit_is_413(store: RunningStore) -> None:
    head = b"POST /v1/products HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    answer = talk(store.port, head + b"Content-Length: 1048577\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"1048576 bytes" in answer


@pytest.mark.parametrize("mebibytes", [2, 12])
def test_who_sends_a_huge_body_before_listening_hears_why_it_was_refused(
    connection: HTTPConnection, mebibytes: int
) -> None:
    body = b'{"name":"' + b"x" * (mebibytes << 20) + b'"}'
    for _ in range(5):
        refused(send(connection, "POST", "/v1/products", body), 413)


def test_a_compressed_body_is_refused(connection: HTTPConnection) -> None:
    import gzip

    body = gzip.compress(msgspec.json.encode(PRODUCT))
    refused(send(connection, "POST", "/v1/products", body, content_encoding="gzip"), 400, 415)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/orders/%00",
        "/v1/orders/%ff%fe",
        "/v1/orders/" + "a" * 4000,
        "/v1/orders/..%2f..%2fetc%2fpasswd",
        "/v1/products/%7Bproduct_id%7D",
        "/v1/products?limit=abc",
        "/v1/products?limit=1&limit=2",
        "/v1/products?limit=99999999999999999999",
        "/v1/products?limit=-1",
        "/v1/products?limit=0",
        "/v1/products?limit=",
        "/v1/products?limit",
        "/v1/products?cursor=%00",
        "/v1/products?cursor=AAAA",
        "/v1/products?cursor=" + "k" * 5000,
        "/v1/products?nonsense=1",
        "/v1/products?search=" + "x" * 5000,
        "/v1/insights/daily-sales?from=yesterday",
        "/v1/insights/daily-sales?from=2010-02-30",
        "/v1/insights/best-sellers?limit=1.5",
    ],
)
def test_a_target_that_means_nothing_is_refused(connection: HTTPConnection, target: str) -> None:
    refused(send(connection, "GET", target))


@pytest.mark.parametrize(
    "search",
    ['"', "*", "a*b", "NEAR(a b)", "name:x", "-", "(", "a AND", "\x00", "💡", "'; --", "%"],
)
def test_any_text_may_be_searched_for(connection: HTTPConnection, search: str) -> None:
    status, body = send(connection, "GET", f"/v1/products?search={quote(search)}")
    assert status == 200, body
    assert set(body) == {"items", "next"}


@pytest.mark.parametrize(
    ("name", "value", "statuses"),
    [
        ("If-None-Match", '"', (200,)),
        ("If-None-Match", "x" * 5000, (200,)),
        ("Tenfold-Position", "a b", (400,)),
        ("Tenfold-Position", "nonsense", (400,)),
        ("Tenfold-Position", "catalog.0000000000000000.99999999999999999999", (400,)),
        ("traceparent", "nonsense", (200,)),
        ("Accept", ";;;q=", (406,)),
        ("Accept", "application/*;q=nonsense", (406,)),
        ("Host", "elsewhere.example", (421,)),
        ("Host", "", (400, 421)),
    ],
)
def test_a_header_that_means_nothing_does_no_harm(
    connection: HTTPConnection, name: str, value: str, statuses: tuple[int, ...]
) -> None:
    answer = send(connection, "GET", "/v1/products?limit=1", **{name.replace("-", "_"): value})
    assert answer[0] in statuses, answer
    if answer[0] >= 400:
        refused(answer)


@pytest.mark.parametrize(
    "prefer", ["wait=nonsense", "wait=-1", "wait", "x" * 5000, "wait=1;wait=2"]
)
def test_a_preference_that_means_nothing_is_ignored(
    connection: HTTPConnection, prefer: str
) -> None:
    answer = send(connection, "POST", "/v1/orders", msgspec.json.encode(ORDER), Prefer=prefer)
    refused(answer, 422)  # the product of the order does not exist


def test_random_bodies_are_answered_with_a_clear_4xx(connection: HTTPConnection) -> None:
    chance = random.Random(20261120)
    for _ in range(400):
        target = chance.choice(["/v1/products", "/v1/orders", f"/v1/products/{uuid4()}/stock"])
        kind = chance.choice(["json", "msgpack"])
        value = _random_value(chance, 0)
        packed = (msgspec.json if kind == "json" else msgspec.msgpack).encode(value)
        if chance.random() < 0.3:
            at = chance.randrange(len(packed))
            packed = packed[:at] + chance.randbytes(chance.randrange(3)) + packed[at + 1 :]
        if not packed:
            continue
        answer = send(connection, "POST", target, packed, content_type=f"application/{kind}")
        refused(answer)


def _random_value(chance: random.Random, depth: int) -> Any:
    keys = ["sku", "name", "price", "amount", "currency", "customer_id", "lines", "quantity", "x"]
    match chance.randrange(9 if depth < 4 else 6):
        case 0:
            return None
        case 1:
            return chance.choice([0, 1, -1, 2**63, 10**6 + 1])
        case 2:
            return chance.choice([0.5, -1e300, 1e300])
        case 3:
            return chance.choice(["", "GBP", "2.55", "x" * 300, "\x00", "💡", str(uuid4())])
        case 4:
            return chance.random() < 0.5
        case 5:
            return []
        case 6:
            return [_random_value(chance, depth + 1) for _ in range(chance.randrange(4))]
        case _:
            return {
                key: _random_value(chance, depth + 1)
                for key in chance.sample(keys, chance.randrange(len(keys)))
            }


def test_random_bytes_on_the_wire_are_refused_or_hung_up_on(store: RunningStore) -> None:
    chance = random.Random(7)
    starts = [b"", b"GET ", b"POST /v1/orders HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n" + HEAD]
    for round_ in range(150):
        raw = chance.choice(starts) + chance.randbytes(chance.randrange(1, 400)) + b"\r\n\r\n"
        answer = talk(store.port, raw)
        status = int(answer.split(b" ")[1]) if answer else 0
        # A request that happens to be whole may be answered by the storefront.
        assert status < 500, (round_, raw, answer[:300])
    store.is_well()


def test_slow_clients_are_sent_away_and_hold_up_nobody(store: RunningStore) -> None:
    head = b"POST /v1/products HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    slow = [b"POST /v1/pro", head, head + b"Content-Length: 100\r\n\r\n{"]
    waiting = []
    try:
        for number in range(60):
            each = socket.create_connection(("127.0.0.1", store.port), timeout=20)
            each.sendall(slow[number % len(slow)])
            waiting.append(each)
        store.is_well()
        for number, each in enumerate(waiting):
            try:
                answer = each.recv(65536)
            except ConnectionResetError:
                answer = b""
            # Who never finished the head may be told or hung up on; who began a body is told.
            told = answer.startswith(b"HTTP/1.1 408 ")
            assert told or (answer == b"" and number % len(slow) < 2), (number, answer[:200])
    finally:
        for each in waiting:
            each.close()
    store.is_well()


def test_what_was_refused_left_nothing_behind(connection: HTTPConnection, tmp_path: Path) -> None:
    status, body = send(connection, "GET", "/v1/products?limit=100")
    assert status == 200
    assert len(body["items"]) == 24, "only the seed's products are there"
    assert send(connection, "GET", "/v1/mail")[1]["items"] == []
