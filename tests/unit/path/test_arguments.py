"""Arguments are bound to their names and validated; results are checked against the contract."""

from __future__ import annotations

from typing import Annotated, Any, Protocol
from uuid import UUID

import msgspec
import pytest

from tenfold.contracts.contract import Contract, OperationSpec, read_contract
from tenfold.contracts.errors import InvalidArgumentsError, InvalidResultError, Outcome
from tenfold.contracts.operations import command, query
from tenfold.contracts.scalars import Money, Page
from tenfold.contracts.structs import Struct
from tenfold.path.arguments import argument_binder, payload_validator, result_checker


class Line(Struct):
    sku: Annotated[str, msgspec.Meta(min_length=1)]
    quantity: Annotated[int, msgspec.Meta(ge=1)] = 1


class Basket(Struct):
    lines: list[Line]
    notes: list[str] = msgspec.field(default_factory=list)


class Shop(Contract, Protocol):
    """A shop."""

    @command(who="anyone")
    async def order(self, customer: str, basket: Basket, gift: bool = False) -> UUID:
        """Order."""
        ...

    @query(who="anyone")
    async def find(self, tags: list[str], counts: dict[str, int], extra: Any = None) -> list[Line]:
        """Find."""
        ...

    @query(who="anyone")
    async def plain(self, numbers: list[int], names: dict[str, list[str]]) -> int | None:
        """Plain values only."""
        ...

    @query(who="anyone")
    async def bare(self, items: list, mapping: dict) -> None:  # type: ignore[type-arg]
        """Unparametrised."""
        ...

    @query(who="anyone")
    async def page(self) -> Page[Line]:
        """A page."""
        ...

    @query(who="anyone")
    async def line(self) -> Line:
        """A line."""
        ...

    @query(who="anyone")
    async def ping(self) -> None:
        """Nothing."""
        ...


SHOP = read_contract(Shop)
BASKET = Basket(lines=[Line(sku="A")])


def op(name: str) -> OperationSpec:
    return SHOP.operations[name]


def bind(name: str, *args: Any, **kwargs: Any) -> Any:
    return argument_binder(op(name))(args, kwargs)


def refused(name: str, *args: Any, **kwargs: Any) -> InvalidArgumentsError:
    with pytest.raises(InvalidArgumentsError) as caught:
        bind(name, *args, **kwargs)
    assert caught.value.outcome is Outcome.NOT_DONE
    assert f"Shop.{name}" in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        (("c", BASKET, True), {}),
        (("c", BASKET), {"gift": True}),
        (("c",), {"gift": True, "basket": BASKET}),
        ((), {"gift": True, "customer": "c", "basket": BASKET}),
    ],
)
def test_arguments_are_bound_by_place_and_by_name(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    bound = bind("order", *args, **kwargs)
    assert msgspec.structs.astuple(bound) == ("c", BASKET, True)


def test_defaults_are_those_of_the_signature() -> None:
    assert bind("order", "c", BASKET).gift is False


def test_an_argument_given_twice_is_named() -> None:
    assert "got ['basket', 'customer'] twice" in str(
        refused("order", "c", BASKET, basket=BASKET, customer="d")
    )


def test_too_many_arguments_are_counted() -> None:
    error = refused("order", "c", BASKET, True, 1)
    assert "takes 3 arguments ['customer', 'basket', 'gift'] and got 4" in str(error)


def test_a_missing_and_an_unknown_argument_are_named() -> None:
    assert "`basket`" in refused("order", "c").detail
    assert "`colour`" in refused("order", "c", BASKET, colour="red").detail
    assert "`colour`" in refused("plain", [], {}, colour="red").detail


@pytest.mark.parametrize(
    ("basket", "field"),
    [
        (Basket(lines=[Line(sku="A"), Line(sku="")]), "basket.lines.1.sku"),
        (Basket(lines=[Line(sku="A", quantity=0)]), "basket.lines.0.quantity"),
        (Basket(lines=["A"]), "basket.lines.0"),  # type: ignore[list-item]
        (Basket(lines=None), "basket.lines"),  # type: ignore[arg-type]
        (7, "basket"),
    ],
)
def test_a_nested_record_is_validated_and_its_place_is_told(basket: Any, field: str) -> None:
    error = refused("order", "c", basket)
    assert error.field == field
    assert f" at {field}: {error.detail}" in str(error)
    assert "Nothing was done" in str(error)


def test_nothing_mutable_is_shared_with_the_caller() -> None:
    basket = Basket(lines=[Line(sku="A")], notes=["n"])
    bound = bind("order", "c", basket).basket
    basket.lines.append(Line(sku="B"))
    basket.notes.clear()
    assert (len(bound.lines), bound.notes) == (1, ["n"])


@pytest.mark.parametrize("name", ["plain", "find", "bare"])
def test_plain_lists_and_mappings_are_not_shared_either(name: str) -> None:
    first: list[Any] = [1] if name == "plain" else ["a"]
    second: dict[str, Any] = {"k": 1} if name == "find" else {"k": ["v"]}
    one, other = msgspec.structs.astuple(bind(name, first, second))[:2]
    first.append(9)
    second["l"] = 2
    if name != "find":
        second["k"].append("w")
    assert len(one) == 1
    assert other == ({"k": 1} if name == "find" else {"k": ["v"]})


def test_money_and_ids_arrive_as_what_they_are() -> None:
    price = Money.from_minor(250, "GBP")
    bound = bind("find", ["a"], {}, {"price": price, "id": UUID(int=1)})
    assert bound.extra["id"] == UUID(int=1)
    assert bound.extra["price"]["amount"] == price.amount


@pytest.mark.parametrize("value", [object(), {"deep": [object()]}, lambda: 1])
def test_what_no_contract_can_carry_is_refused(value: Any) -> None:
    assert "no contract can carry" in str(refused("find", [], {}, value))


def test_values_are_not_coerced() -> None:
    assert refused("plain", ["1"], {}).field == "numbers.0"
    assert refused("order", 1, BASKET).field == "customer"
    assert refused("order", "c", BASKET, 1).field == "gift"


def test_a_payload_is_validated_and_copied() -> None:
    validate = payload_validator("shop.ordered", Basket)
    copied = validate(BASKET)
    assert copied == BASKET
    assert copied.lines is not BASKET.lines
    with pytest.raises(InvalidArgumentsError) as caught:
        validate(Basket(lines=[Line(sku="")]))
    assert caught.value.field == "lines.0.sku"


def test_a_payload_that_no_wire_can_carry_is_refused_as_arguments_are() -> None:
    class Loose(Struct):
        anything: Any

    validate = payload_validator("shop.loose", Loose)
    with pytest.raises(InvalidArgumentsError, match=r"shop\.loose.*no contract can carry"):
        validate(Loose(anything=object()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", UUID(int=1)),
        ("find", [Line(sku="A")]),
        ("find", []),
        ("plain", 3),
        ("plain", None),
        ("page", Page(items=[Line(sku="A")])),
        ("line", Line(sku="A")),
        ("ping", None),
    ],
)
def test_a_result_that_was_promised_passes(name: str, value: Any) -> None:
    assert result_checker(op(name))(value) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", "not-an-id"),
        ("order", None),
        ("find", [Line(sku="A"), "B"]),
        ("find", None),
        ("plain", "3"),
        ("page", [Line(sku="A")]),
        ("page", Line(sku="A")),
        ("line", BASKET),
        ("line", {"sku": "A"}),
        ("line", None),
        ("ping", 0),
    ],
)
def test_another_result_is_a_fault_of_the_handler(name: str, value: Any) -> None:
    with pytest.raises(InvalidResultError) as caught:
        result_checker(op(name))(value)
    text = str(caught.value)
    assert f"The handler of Shop.{name} returned {type(value).__name__}" in text
    assert "Nothing was committed. Mend the handler or the contract." in text
