"""What the catalog decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.catalog.contract import MAX_PRICE_MINOR, NewProduct, PriceNotAllowed, ProductName, Sku
from store.catalog.rules import decide_missing, decide_product
from tenfold import Money

AT = datetime(2026, 11, 20, 9, tzinfo=UTC)
SKUS = st.sampled_from(["A", "B", "C", "D"])


def new(
    sku: str = "A", name: str = "Lamp", price: str = "2.55", currency: str = "GBP"
) -> NewProduct:
    return NewProduct(sku=sku, name=name, price=Money(amount=Decimal(price), currency=currency))


def counting() -> Callable[[], UUID]:
    numbers = iter(range(1, 1_000))
    return lambda: UUID(int=next(numbers))


def test_name_is_trimmed() -> None:
    assert decide_product(new(name="  Oak lamp\t"), UUID(int=1), AT).name == "Oak lamp"


@pytest.mark.parametrize("price", ["0", "-1", "-0.01"])
def test_price_must_be_above_zero(price: str) -> None:
    with pytest.raises(PriceNotAllowed):
        decide_product(new(price=price), UUID(int=1), AT)


@pytest.mark.parametrize("currency", ["GBP", "JPY", "BHD"])
def test_dearest_price_is_allowed_and_one_unit_more_is_not(currency: str) -> None:
    dearest = Money.from_minor(MAX_PRICE_MINOR, currency)
    kept = NewProduct(sku="A", name="n", price=dearest)
    assert decide_product(kept, UUID(int=1), AT).price == dearest
    more = NewProduct(sku="A", name="n", price=Money.from_minor(MAX_PRICE_MINOR + 1, currency))
    with pytest.raises(PriceNotAllowed) as refused:
        decide_product(more, UUID(int=1), AT)
    assert refused.value.payload()["highest"] == dearest


@given(wanted=st.lists(SKUS, max_size=8), there=st.sets(SKUS))
def test_each_sku_has_one_product_and_those_that_are_there_win(
    wanted: list[str], there: set[str]
) -> None:
    old = [decide_product(new(sku, name="old"), UUID(int=900 + ord(sku)), AT) for sku in there]
    added, products = decide_missing([new(sku) for sku in wanted], old, counting(), AT)
    assert [product.sku for product in products] == list(dict.fromkeys(wanted))
    assert {product.sku for product in added} == set(wanted) - there
    assert all(product.name == "old" for product in products if product.sku in there)
    assert decide_missing([new(sku) for sku in wanted], products, counting(), AT) == ([], products)


@pytest.mark.parametrize("sku", ["85123A", "gift_0001_20", "DOT", "BANK CHARGES", "m", "15056bl"])
def test_skus_of_real_shops_are_taken(sku: str) -> None:
    assert msgspec.convert(sku, Sku) == sku


@pytest.mark.parametrize("sku", ["", " A", "A ", "A\n", "é", "A" * 33, "_A", "A\x00B"])
def test_other_skus_are_not(sku: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(sku, Sku)


@given(st.text(max_size=230))
def test_a_name_that_is_taken_has_1_to_200_characters_when_trimmed(name: str) -> None:
    try:
        msgspec.convert(name, ProductName)
    except msgspec.ValidationError:
        bad = any(ord(c) < 32 or ord(c) == 127 for c in name.strip())
        assert bad or not 1 <= len(name.strip()) <= 200
    else:
        assert 1 <= len(name.strip()) <= 200


def test_blanks_around_a_name_do_not_count() -> None:
    name = " " * 300 + "x" * 200 + "\n" * 300
    assert msgspec.convert(name, ProductName).strip() == "x" * 200
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert("x" * 201, ProductName)
