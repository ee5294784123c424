"""The position token of a client: header before cookie, and mounts that see and tell on."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold.edges.http.errors import UnreadableRequestError
from tenfold.edges.http.seen import position_cookie, position_of, serve_seen
from tenfold.path.positions import SEEN


def test_the_header_goes_before_the_cookie() -> None:
    headers = {b"tenfold-position": b"orders.e.3", b"cookie": b'tenfold-position="orders.e.2"'}
    assert position_of(headers, cookies=True) == "orders.e.3"


def test_the_cookie_is_read_back_as_it_was_set() -> None:
    name, value = position_cookie("orders.e.2,DBab.1.77")
    assert name == b"set-cookie"
    headers = {b"cookie": b"other=1; " + value.partition(b";")[0]}
    assert position_of(headers, cookies=True) == "orders.e.2,DBab.1.77"
    assert position_of(headers, cookies=False) is None


@pytest.mark.parametrize("cookie", [b"tenfold-position=", b"tenfold-position=<x>", b'a="\x00', b""])
def test_a_cookie_of_somebody_else_asks_for_nothing(cookie: bytes) -> None:
    assert position_of({b"cookie": cookie}, cookies=True) is None


def test_a_header_that_no_product_gave_is_refused() -> None:
    with pytest.raises(UnreadableRequestError):
        position_of({b"tenfold-position": b"nonsense"}, cookies=True)


@pytest.mark.anyio
async def test_a_mount_sees_what_its_client_has_seen_and_tells_on() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen = SEEN.get()
        assert seen is not None
        assert seen.token == "orders.e.2"
        seen.add("orders.e.5")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    scope = {"type": "http", "headers": [(b"cookie", b'tenfold-position="orders.e.2"')]}
    await serve_seen(app, scope, receive, send)
    assert sent[0]["headers"] == [position_cookie("orders.e.5")]
    assert SEEN.get() is None
