"""What clients, and caches between here and them, are told about keeping an answer."""

from __future__ import annotations

import pytest

from tenfold.edges.http.settings import HttpSettings
from tenfold.path.kept import Shown
from tests.http.shop import PRODUCT, Caller

pytestmark = pytest.mark.anyio
TARGET = "/v1/prices/green%20tea"
TAGS = ("main/shop/price:green tea", "main/shop/all")


def keeping(age_s: float = 20.0) -> Caller:
    caller = Caller(HttpSettings(position_cookies=True))
    caller.entry.kept = Shown(target="shop.price", age_s=age_s, left_s=60 - age_s, tags=TAGS)
    return caller


async def test_what_everyone_shares_may_be_kept_by_a_cdn() -> None:
    response = await keeping().send("GET", TARGET)
    assert response.headers["cache-control"] == "public, max-age=60, stale-if-error=300"
    assert response.headers["age"] == "20"
    assert response.headers["vary"] == "accept, tenfold-position"
    assert response.headers["surrogate-key"] == "main/shop/price:green%20tea main/shop/all"
    assert response.headers["cache-tag"] == "main/shop/price:green%20tea,main/shop/all"


async def test_304_says_the_same_as_200() -> None:
    caller = keeping()
    full = await caller.send("GET", TARGET)
    short = await caller.send("GET", TARGET, None, {"if-none-match": full.headers["etag"]})
    assert short.status == 304
    for name in ("cache-control", "age", "vary", "surrogate-key", "etag"):
        assert short.headers[name] == full.headers[name]


async def test_head_says_the_same_as_get() -> None:
    caller = keeping()
    get, head = await caller.send("GET", TARGET), await caller.send("HEAD", TARGET)
    assert head.body == b""
    for name in ("cache-control", "age", "etag", "surrogate-key"):
        assert head.headers[name] == get.headers[name]


async def test_credentials_do_not_make_private_what_everyone_shares() -> None:
    response = await keeping().send("GET", TARGET, None, {"authorization": "Bearer x"})
    assert response.headers["cache-control"].startswith("public")


async def test_what_one_caller_has_seen_never_stands_in_a_public_answer() -> None:
    for headers in (
        {"tenfold-position": "shop.e.7"},
        {"cookie": "a=b; tenfold-position=shop.e.7"},
    ):
        response = await keeping().send("GET", TARGET, None, headers)
        assert response.headers["cache-control"].startswith("private")
        assert response.headers["tenfold-position"] == "shop.e.7"
        assert "surrogate-key" not in response.headers


async def test_a_public_answer_sets_no_cookie_and_has_no_position() -> None:
    from tenfold.path.entry import Incoming, Reply

    caller = keeping()
    answer = caller.entry.call

    async def call(incoming: Incoming) -> Reply:
        import msgspec

        return msgspec.structs.replace(await answer(incoming), position="shop.e.9")

    caller.entry.call = call  # type: ignore[method-assign]
    response = await caller.send("GET", TARGET)
    assert response.headers["cache-control"].startswith("public")
    assert "tenfold-position" not in response.headers
    assert "set-cookie" not in response.headers
    private = await caller.send("GET", f"/v1/products/{PRODUCT}")
    assert private.headers["cache-control"].startswith("private")
    assert "set-cookie" in private.headers


async def test_what_depends_on_who_asks_is_public_only_for_strangers() -> None:
    caller = keeping()
    target = f"/v1/products/{PRODUCT}"
    response = await caller.send("GET", target)
    assert response.headers["cache-control"] == "public, max-age=60"
    # A cache must not give a stranger's answer to somebody who says who he is.
    assert response.headers["vary"] == "accept, authorization, cookie, tenfold-position"
    for headers in ({"authorization": "Bearer x"}, {"cookie": "a=b"}):
        response = await caller.send("GET", target, None, headers)
        assert response.headers["cache-control"] == "private, max-age=60"


async def test_what_needs_a_permission_is_never_public() -> None:
    response = await keeping().send("GET", "/v1/secrets")
    assert response.headers["cache-control"] == "private, max-age=60"


async def test_the_etag_is_the_same_in_every_process_and_of_every_form_its_own() -> None:
    one = (await keeping().send("GET", TARGET)).headers["etag"]
    two = (await keeping().send("GET", TARGET)).headers["etag"]
    packed = await keeping().send("GET", TARGET, None, {"accept": "application/msgpack"})
    assert one == two
    assert not one.startswith("W/")
    assert packed.headers["etag"] != one
