"""What a query says of keeping its answers, and what is refused at start."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol
from uuid import UUID

import pytest

from tenfold import Contract, Event, Struct, command, query
from tenfold.contracts.caching import TagTemplate, event_tags
from tenfold.contracts.contract import read_contract
from tenfold.contracts.errors import ContractError


class PriceChanged(Event):
    product_id: UUID
    price: int


class ShopClosed(Event):
    reason: str


class Colour(Enum):
    RED = "red"


def refused(**said: Any) -> str:
    """The error of a query with these declarations."""
    invalidates = said.pop("invalidates", ())

    class Shop(Contract, Protocol):
        @query(who="anyone", **said)
        async def product(self, product_id: UUID, tags: list[str] = []) -> int:  # noqa: B006
            """One product."""
            ...

        @command(who="anyone", invalidates=invalidates)
        async def rename(self, product_id: UUID, name: str) -> None:
            """Rename it."""
            ...

    with pytest.raises(ContractError) as caught:
        read_contract(Shop)
    return str(caught.value)


def test_what_works_is_taken() -> None:
    class Shop(Contract, Protocol):
        @query(
            who="anyone",
            cache_s=60,
            tags=["product:{product_id}", "catalog"],
            invalidated_by=[PriceChanged],
            cache_for="everyone",
            stale_if_error_s=300,
        )
        async def product(self, product_id: UUID, form: str = "short") -> int:
            """One product."""
            ...

        @command(who="anyone", invalidates=["product:{product}"])
        async def rename(self, product: UUID, name: str) -> None:
            """Rename it."""
            ...

    spec = read_contract(Shop)
    assert spec.operations["product"].declaration.tags == ("product:{product_id}", "catalog")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"tags": ["a"]}, "tags= without cache_s="),
        ({"stale_if_error_s": 5}, "stale_if_error_s= without cache_s="),
        ({"cache_for": "everyone"}, "cache_for='everyone' without cache_s="),
        ({"cache_s": 0}, "cache_s=0, which is outside"),
        ({"cache_s": 1e9}, "which is outside 0 to 604800 seconds"),
        ({"cache_s": 5, "stale_if_error_s": -1}, "stale_if_error_s=-1"),
        ({"cache_s": 5, "cache_for": "all"}, 'Say "principal"'),
        ({"cache_s": 5, "tags": ["p:{product}"]}, "The nearest is 'product_id'"),
        ({"cache_s": 5, "tags": ["p:{tags}"]}, "is not one value"),
        ({"cache_s": 5, "tags": ["two words"]}, "cannot be read"),
        ({"cache_s": 5, "tags": ["p:{product_id"]}, "cannot be read"),
        ({"cache_s": 5, "tags": [""]}, "cannot be read"),
        ({"cache_s": 5, "invalidated_by": [PriceChanged]}, "has no tags"),
        (
            {"cache_s": 5, "tags": ["p:{product_id}"], "invalidated_by": [ShopClosed]},
            "fill none of its tags",
        ),
        ({"cache_s": 5, "tags": ["a"], "invalidated_by": [Struct]}, "which is not an Event"),
        (
            {"cache_s": 5, "tags": ["p:{product_id}"], "invalidates": ["q:{product_id}"]},
            "The nearest is 'p:{product_id}'",
        ),
        ({"invalidates": ["q:{product_id}"]}, "it would drop nothing"),
    ],
)
def test_what_cannot_work_is_refused_with_the_way_to_mend_it(
    said: dict[str, Any], told: str
) -> None:
    text = refused(**said)
    assert told in text
    assert "Shop." in text


def test_one_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(ContractError, match=r"Write it as a list"):
        query(who="anyone", cache_s=5, tags="product:{product_id}")


def test_a_tag_is_filled_in_from_values() -> None:
    class Values(Struct):
        id: UUID
        colour: Colour

    values = Values(id=UUID(int=1), colour=Colour.RED)
    assert TagTemplate("p:{id}/{colour}", "here").fill(values) == f"p:{UUID(int=1)}/red"


def test_an_event_drops_the_tags_that_it_fills_in() -> None:
    one, two, all_ = (TagTemplate(text, "here") for text in ("p:{id}", "c:{colour}", "all"))
    assert event_tags((one, two, all_), ("id", "price")) == (one,)
    assert event_tags((one, two, all_), ("id", "colour")) == (one, two)
    assert event_tags((all_,), ("id",)) == (all_,)
    assert event_tags((one, all_), ("other",)) == ()
