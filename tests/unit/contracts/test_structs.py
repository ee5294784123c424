"""Structs are frozen and forward-compatible; events have a key and a version."""

from __future__ import annotations

import msgspec
import pytest

from tenfold.contracts.envelope import ANONYMOUS, OPERATOR, Envelope, Principal
from tenfold.contracts.structs import Event, Struct


class Line(Struct):
    sku: str
    quantity: int = 1


class Ordered(Event, key="order", version=3):
    order: str
    lines: list[Line] = msgspec.field(default_factory=list)


class Reordered(Ordered):
    pass


class Noted(Event):
    text: str


class Round(Struct, tag="round"):
    radius: int


class Square(Struct, tag="square"):
    side: int


def test_a_struct_cannot_be_changed() -> None:
    line = Line(sku="A")
    with pytest.raises(AttributeError):
        line.quantity = 2  # type: ignore[misc]
    assert (line.sku, line.quantity) == ("A", 1)
    assert hash(line) == hash(Line(sku="A", quantity=1))


def test_its_fields_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Line("A")  # type: ignore[misc]
    with pytest.raises(TypeError):
        Reordered("o")  # type: ignore[misc]


def test_a_required_field_may_follow_one_with_a_default() -> None:
    class Late(Line):
        colour: str

    assert Late(sku="A", colour="red").quantity == 1


@pytest.mark.parametrize("kind", [Line, Ordered, Principal])
def test_fields_of_newer_code_are_ignored(kind: type[Struct]) -> None:
    known = {"sku": "A", "order": "o", "id": "p"}
    assert isinstance(msgspec.convert({**known, "colour": "red"}, kind), kind)


def test_lists_by_default_are_each_their_own() -> None:
    one, two = Ordered(order="1"), Ordered(order="2")
    one.lines.append(Line(sku="A"))
    assert two.lines == []


def test_an_event_knows_its_key_and_its_version() -> None:
    assert (Ordered.order_key_field, Ordered.schema_version) == ("order", 3)
    assert (Noted.order_key_field, Noted.schema_version) == (None, 1)


def test_key_and_version_are_inherited_and_not_sent() -> None:
    assert (Reordered.order_key_field, Reordered.schema_version) == ("order", 3)
    assert msgspec.to_builtins(Noted(text="t")) == {"text": "t"}


def test_a_tag_tells_structs_of_a_union_apart() -> None:
    shapes = [Round(radius=1), Square(side=2)]
    wire = msgspec.json.encode(shapes)
    assert msgspec.json.decode(wire, type=list[Round | Square]) == shapes


def test_an_envelope_reads_what_newer_code_wrote() -> None:
    assert "payload" in Envelope.__struct_fields__
    fields = {"id": "1", "kind": "job", "target": "m.h", "payload": {"a": 1}, "tenant": "main"}
    fields |= {"principal": {"id": "p"}, "trace": {"trace_id": "t", "span_id": "s"}}
    read = msgspec.convert({**fields, "at": "2026-11-20T12:00:00Z", "new": 1}, Envelope)
    assert (read.payload, read.principal, read.version) == ({"a": 1}, Principal(id="p"), 1)
    assert (read.deadline, read.idempotency_key) == (None, None)


def test_a_principal_may_what_it_was_granted() -> None:
    clerk = Principal(id="clerk", permissions=("sell", "refund"))
    assert clerk.may("sell")
    assert not clerk.may("sel")
    assert not clerk.may("*")
    assert OPERATOR.may("anything")
    assert not ANONYMOUS.may("anything")
