"""The edge's parts by themselves: forms, routes, entity tags, mounts, what is refused at start."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.contract import Contract, OperationSpec, read_contract
from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import command, query
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Struct
from tenfold.edges.http.app import http_app
from tenfold.edges.http.errors import NotAcceptableError
from tenfold.edges.http.exchange import wait_of
from tenfold.edges.http.forms import JSON, MSGPACK, negotiate
from tenfold.edges.http.replies import etag_of, matches_etag
from tenfold.edges.http.routes import Routes
from tests.http.shop import PRODUCT, Caller, ShopEntry, make_product

WEIGHTS = st.integers(0, 1000).map(lambda n: n / 1000)


@given(WEIGHTS, WEIGHTS)
def test_the_form_with_the_higher_weight_is_chosen(json: float, msgpack: float) -> None:
    accept = f"application/json;q={json}, application/msgpack ; q={msgpack}".encode()
    if json == msgpack == 0:
        with pytest.raises(NotAcceptableError):
            negotiate(accept)
    else:
        assert negotiate(accept) is (JSON if json >= msgpack else MSGPACK)


@given(st.lists(st.sampled_from(["text/html", "image/*", "application/xml;q=0.9"]), max_size=4))
def test_a_wildcard_admits_json(others: list[str]) -> None:
    assert negotiate(", ".join([*others, "*/*;q=0.1"]).encode()) is JSON


@given(st.binary(max_size=80))
def test_any_accept_header_is_read_or_refused(accept: bytes) -> None:
    try:
        assert negotiate(accept).content_type.startswith(b"application/")
    except NotAcceptableError:
        pass


def test_a_specific_range_goes_before_a_wildcard() -> None:
    assert negotiate(b"application/json;q=0, */*") is MSGPACK
    assert negotiate(b"application/*;q=0.2, application/msgpack;q=0.1") is JSON
    assert negotiate(None) is JSON
    assert negotiate(b"") is JSON
    for wrong in (b"application/json;q=inf", b"application/json;q=-1", b"application/json;q=x"):
        with pytest.raises(NotAcceptableError):
            negotiate(wrong)


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        (b"wait=5", 5.0),
        (b"respond-async, wait=10", 10.0),
        (b'WAIT = "7"; x=y', 7.0),
        (b"wait=3600", 60.0),
        (b"wait", None),
        (b"wait=-1", None),
        (b"await=5", None),
        (b"wait=5x", None),
    ],
)
def test_a_wait_is_read_and_capped(prefer: bytes, wait_s: float | None) -> None:
    assert wait_of({b"prefer": prefer}, 60.0) == wait_s


@given(st.binary(max_size=100))
def test_an_entity_tag_matches_itself_only(body: bytes) -> None:
    tag = etag_of(body)
    assert matches_etag(tag, tag)
    assert not matches_etag(etag_of(body + b"x"), tag)


_SEGMENT = st.text("abc%/ é", min_size=1, max_size=5).filter(lambda s: s not in (".", ".."))


@given(_SEGMENT, _SEGMENT)
def test_encoded_parameters_come_back_as_they_were(first: str, second: str) -> None:
    from urllib.parse import quote

    routes: Routes[str] = Routes()
    routes.add("GET", "/x/{a}/y/{b}", "here", "test")
    raw = f"/x/{quote(first, safe='')}/y/{quote(second, safe='')}".encode()
    place, values = routes.find(raw)
    assert place is not None
    assert list(values) == [first, second]


def test_a_literal_that_leads_nowhere_gives_way_to_a_parameter() -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a/b/c", "literal", "one")
    routes.add("GET", "/a/{x}/d", "parameter", "two")
    place, values = routes.find(b"/a/b/d")
    assert place is not None
    assert place.methods["GET"] == "parameter"
    assert list(values) == ["b"]


class Made(Struct):
    name: str


class BadField(Refusal, status=409):
    """No."""

    detail: str


class BadStatus(Refusal, status=500):
    """No."""


def operations_of(*contracts: Any) -> dict[str, OperationSpec]:
    specs = [read_contract(contract) for contract in contracts]
    return {f"m{n}.{name}": op for n, s in enumerate(specs) for name, op in s.operations.items()}


class One(Contract, Protocol):
    @query("GET /v1/things/{thing_id}", who="anyone")
    async def get_thing(self, thing_id: UUID) -> Made: ...


class Two(Contract, Protocol):
    @query("GET /v1/things/{other_id}", who="anyone")
    async def get_other(self, other_id: UUID) -> Made: ...


class Taken(Contract, Protocol):
    @query("GET /docs/mine", who="anyone")
    async def get_mine(self) -> Made: ...


class Half(Contract, Protocol):
    @query("GET /v1/x-{name}", who="anyone")
    async def get_half(self, name: str) -> Made: ...


class NoId(Contract, Protocol):
    @query("GET /v1/things/{thing_id}", who="anyone")
    async def get_thing(self, thing_id: UUID) -> Made: ...

    @command("POST /v1/things", who="anyone", created="get_thing")
    async def make(self) -> Made: ...


class Field(Contract, Protocol):
    @command("POST /v1/things", who="anyone", raises=[BadField])
    async def make(self) -> None: ...


class Status(Contract, Protocol):
    @command("POST /v1/things", who="anyone", raises=[BadStatus])
    async def make(self) -> None: ...


@pytest.mark.parametrize(
    ("contracts", "names"),
    [
        ((One, Two), ("One.get_thing", "Two.get_other")),
        ((Taken,), ("Taken.get_mine", "docs")),
        ((Half,), ("Half.get_half", "x-{name}")),
        ((NoId,), ("NoId.make", "thing_id")),
        ((Field,), ("BadField", "'detail'")),
        ((Status,), ("BadStatus", "500")),
    ],
)
def test_what_cannot_be_served_is_refused_at_start(
    contracts: tuple[Any, ...], names: tuple[str, str]
) -> None:
    import msgspec

    operations = operations_of(*contracts)
    product = msgspec.structs.replace(make_product(), operations=operations)
    with pytest.raises(ContractError) as refused:
        http_app(ShopEntry(), product)
    for name in names:
        assert name in str(refused.value)


class Mounted:
    """An ASGI application that remembers what it was asked."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                self.events.append(kind)
                if kind == "lifespan.startup":
                    scope["state"]["pool"] = "open"
                await send({"type": f"{kind}.complete"})
                if kind == "lifespan.shutdown":
                    return
        body = f"{scope['root_path']}|{scope['path']}|{scope['state'].get('pool')}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.mark.anyio
async def test_mounts_get_what_nothing_else_answers_and_their_lifespan() -> None:
    site, admin = Mounted(), Mounted()

    async def plain(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"

    caller = Caller(mounts={"/": site, "/admin": admin, "/plain": plain})
    inbox = [{"type": "lifespan.startup"}]
    outbox: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        outbox.append(message)
        if message["type"] == "lifespan.startup.complete":
            assert (await caller.send("GET", "/admin/users")).body == b"/admin|/admin/users|open"
            assert (await caller.send("GET", "/administrator")).body == b"|/administrator|open"
            assert (await caller.send("GET", "/")).body == b"|/|open"
            assert (await caller.send("GET", f"/v1/products/{PRODUCT}")).json()["sku"] == "tea"
            assert (await caller.send("PATCH", "/v1/products")).status == 405
            inbox.append({"type": "lifespan.shutdown"})

    await caller.app({"type": "lifespan"}, receive, send)
    assert [m["type"] for m in outbox] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert site.events == admin.events == ["lifespan.startup", "lifespan.shutdown"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("target", "accept", "content_type", "told_by"),
    [
        ("/v1/nothing", "*/*", "text/html; charset=utf-8", "edge"),
        ("/v1/nothing", "application/json", "text/plain", "edge"),
        ("/v1/nothing", "text/html,*/*;q=0.8", "text/html", "mount"),
        ("/v1/nothing", "*/*", "application/json", "mount"),
        ("/nothing", "*/*", "text/html", "mount"),
    ],
)
async def test_a_program_that_misses_a_route_is_told_by_a_problem_not_by_a_page(
    target: str, accept: str, content_type: str, told_by: str
) -> None:
    async def site(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"Content-Type", content_type.encode())]
        await send({"type": "http.response.start", "status": 404, "headers": headers})
        await send({"type": "http.response.body", "body": b"the mount's"})

    answer = await Caller(mounts={"/": site}).send("GET", target, None, {"accept": accept})
    assert answer.status == 404
    if told_by == "edge":
        assert answer.json()["code"] == "http.not_found"
    else:
        assert answer.body == b"the mount's"


@pytest.mark.anyio
async def test_a_mount_that_does_not_start_stops_the_start() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no templates"})

    inbox, outbox = [{"type": "lifespan.startup"}], []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        outbox.append(message)

    await Caller(mounts={"/": broken}).app({"type": "lifespan"}, receive, send)
    assert outbox[0]["type"] == "lifespan.startup.failed"
    assert "no templates" in outbox[0]["message"]


@pytest.mark.anyio
async def test_a_product_is_served_inside_another_application() -> None:
    target = f"/shop/v1/products/{PRODUCT}"
    response = await Caller().send("GET", target, root_path="/shop")
    assert response.status == 200
