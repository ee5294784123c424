"""The pure parts of the storefront: the basket's cookie, pictures, and which posts are taken."""

from __future__ import annotations

from uuid import UUID, uuid4
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.web.art import art_name, draw
from store.web.basket import LARGEST_QUANTITY, LONGEST_BASKET, Basket
from store.web.guard import decide_origin

quantities = st.integers(1, LARGEST_QUANTITY)


@given(st.dictionaries(st.uuids(), quantities, max_size=LONGEST_BASKET))
def test_a_basket_is_read_as_it_was_written(lines: dict[UUID, int]) -> None:
    basket = Basket()
    for product_id, quantity in lines.items():
        basket = basket.with_quantity(product_id, quantity)
    assert Basket.read(basket.cookie()) == basket
    assert basket.pieces == sum(lines.values())
    assert len(basket.cookie()) < 1_000


@given(st.text() | st.text("0123456789abcdef.-"))
def test_any_cookie_is_a_basket_within_its_bounds(cookie: str) -> None:
    basket = Basket.read(cookie)
    assert len(basket.lines) <= LONGEST_BASKET
    assert all(1 <= line.quantity <= LARGEST_QUANTITY for line in basket.lines)


def test_a_full_basket_takes_no_further_product_but_more_of_one_that_it_has() -> None:
    basket = Basket()
    for _ in range(LONGEST_BASKET):
        basket = basket.with_quantity(uuid4(), 1)
    assert basket.with_quantity(uuid4(), 1) == basket
    first = basket.lines[0].product_id
    assert basket.with_quantity(first, 5_000).quantity(first) == LARGEST_QUANTITY
    assert basket.with_quantity(first, 0).pieces == LONGEST_BASKET - 1


@pytest.mark.parametrize(
    ("name", "motif"),
    [
        ("WHITE HANGING HEART T-LIGHT HOLDER", "heart"),
        ("Speckled stoneware mug", "mug"),
        ("Nesting bowls, set of four", "bowl"),
        ("Oak and linen table lamp", "lamp"),
        ("Fig and cedar candle", "candle"),
        ("Bread knife, olive wood handle", "knife"),
        ("Cast iron teapot, 0.8 litre", "teapot"),
        ("Terracotta planter with saucer", "planter"),
        ("Round brass mirror, 40 cm", "mirror"),
        ("Something else", "tiles"),
        ("", "tiles"),
    ],
)
def test_a_picture_shows_what_the_name_says(name: str, motif: str) -> None:
    assert art_name("X", name).startswith(f"{motif}-")


@given(st.text(), st.text())
def test_every_product_has_a_picture_always_the_same_and_well_formed(sku: str, name: str) -> None:
    drawn = draw(art_name(sku, name))
    assert drawn is not None
    assert drawn == draw(art_name(sku, name))
    ElementTree.fromstring(drawn)


@given(st.text())
def test_no_other_name_is_a_picture(art: str) -> None:
    assert draw(art) is None


@pytest.mark.parametrize(
    ("method", "host", "origin", "fetch_site", "taken"),
    [
        ("GET", "shop:1", "https://evil.example", "cross-site", True),
        ("POST", "shop:1", "http://shop:1", "same-origin", True),
        ("POST", "shop:1", None, None, True),
        ("POST", "shop:1", "http://shop:1", None, True),
        ("POST", "shop:1", "https://evil.example", None, False),
        ("POST", "shop:1", "null", None, False),
        ("POST", "shop:1", "http://shop:2", "same-site", False),
        ("POST", None, "http://shop:1", None, False),
        ("POST", "shop:1", None, "cross-site", False),
    ],
)
def test_only_posts_of_this_site_are_taken(
    method: str, host: str | None, origin: str | None, fetch_site: str | None, taken: bool
) -> None:
    decided = decide_origin(method, host=host, origin=origin, fetch_site=fetch_site)
    assert decided is taken
