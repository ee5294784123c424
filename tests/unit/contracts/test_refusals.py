"""A refusal carries its declared fields, and nothing else, wherever it goes."""

from __future__ import annotations

import copy
import pickle
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
import pytest

from tenfold.contracts.errors import ContractError
from tenfold.contracts.refusals import Refusal

ID = UUID(int=7)


class OutOfStock(Refusal, status=410):
    """There is not enough
    of it left.

    The shop may have more tomorrow.
    """

    sku: str
    left: Annotated[int, msgspec.Meta(ge=0)]


class OutOfStockHere(OutOfStock):
    """There is not enough of it in this warehouse."""

    warehouse: UUID


class TooMany(Refusal):
    """Too many."""

    most: int = 10


class HTTPGone(Refusal):
    since: ClassVar[int] = 3


def test_its_fields_are_attributes_in_the_order_of_declaration() -> None:
    refusal = OutOfStock(left=0, sku="A")
    assert (refusal.sku, refusal.left) == ("A", 0)
    assert OutOfStock.fields == ("sku", "left")
    assert list(refusal.payload().items()) == [("sku", "A"), ("left", 0)]


def test_status_and_code_come_from_the_declaration() -> None:
    assert (OutOfStock.status, OutOfStock.code) == (410, "out_of_stock")
    assert (HTTPGone.status, HTTPGone.fields) == (409, ())


def test_a_refusal_of_a_refusal_has_the_fields_of_both() -> None:
    assert OutOfStockHere.fields == ("sku", "left", "warehouse")
    made = OutOfStockHere(sku="A", left=0, warehouse=ID)
    assert isinstance(made, OutOfStock)
    assert made.payload() == {"sku": "A", "left": 0, "warehouse": ID}


def test_a_field_with_a_default_may_be_left_out() -> None:
    assert TooMany().payload() == {"most": 10}
    assert TooMany(most=3).most == 3
    assert msgspec.structs.asdict(msgspec.convert({}, TooMany.payload_type())) == {"most": 10}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, r"missing: \['sku', 'left'\]"),
        ({"sku": "A"}, r"missing: \['left'\]"),
        ({"sku": "A", "left": 1, "more": 2}, r"unknown: \['more'\]"),
        ({"sky": "A", "left": 1}, r"missing: \['sku'\]; unknown: \['sky'\]"),
    ],
)
def test_missing_and_unknown_fields_are_told(values: dict[str, object], told: str) -> None:
    with pytest.raises(TypeError, match=r"OutOfStock takes the fields \['sku', 'left'\].*" + told):
        OutOfStock(**values)


@pytest.mark.parametrize("name", ["status", "code", "fields", "args", "payload", "sentence"])
def test_a_field_may_not_take_the_place_of_what_a_refusal_has(name: str) -> None:
    with pytest.raises(ContractError, match=f"Odd has a field {name!r}.*Name it otherwise"):
        type("Odd", (Refusal,), {"__annotations__": {name: "str"}})


def test_it_survives_pickling_and_copying() -> None:
    refusal = OutOfStockHere(sku="A", left=2, warehouse=ID)
    for again in (pickle.loads(pickle.dumps(refusal)), copy.copy(refusal), copy.deepcopy(refusal)):
        assert type(again) is OutOfStockHere
        assert again.payload() == refusal.payload()
        assert str(again) == str(refusal)


def test_its_payload_travels_as_a_struct_that_validates() -> None:
    kind = OutOfStock.payload_type()
    assert kind is OutOfStock.payload_type()
    assert kind is not OutOfStockHere.payload_type()
    body = msgspec.json.encode(OutOfStock(sku="A", left=1).payload())
    carried = msgspec.json.decode(body, type=kind)
    assert OutOfStock(**msgspec.structs.asdict(carried)).payload() == {"sku": "A", "left": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"sku": "A", "left": -1}, kind)


def test_its_sentence_is_the_first_paragraph_of_its_docstring() -> None:
    assert OutOfStock.sentence() == "There is not enough of it left."
    assert str(OutOfStock(sku="A", left=1)) == "There is not enough of it left. (sku=A, left=1)"


def test_without_a_docstring_its_name_is_its_sentence() -> None:
    assert HTTPGone.sentence() == "HTTPGone"
    assert str(HTTPGone()) == "HTTPGone"
