"""Events as CloudEvents: what was published arrives as it was, and in the standard's words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold import Event
from tenfold.contracts.envelope import Envelope, Principal, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.path.cloud_events import CloudEventCodec
from tenfold.ports.records import OutboxRow

TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=True)
AT = datetime(2026, 11, 28, 12, 30, 15, 123456, tzinfo=UTC)


class Placed(Event, key="order"):
    order: UUID
    total: Decimal
    at: datetime
    seal: bytes
    tags: frozenset[str] = frozenset()
    note: str | None = None
    parts: dict[str, int] = {}  # noqa: RUF012 - msgspec copies it


CODEC = CloudEventCodec("shop", "orders", {"orders.Placed": Placed})


def row(
    payload: object, *, seq: int = 7, name: str = "orders.Placed", key: str | None = "k"
) -> OutboxRow:
    envelope = Envelope(
        id=f"m{seq}",
        kind=Kind.EVENT,
        target=name,
        payload=payload,
        principal=Principal(id="ann", permissions=("orders.read", "ä,b")),
        tenant="acme",
        trace=TRACE,
        at=AT,
        order_key=key,
        cause="c1",
        version=3,
    )
    return OutboxRow(
        seq=seq,
        message_id=envelope.id,
        name=name,
        tenant="acme",
        order_key=key,
        at=AT,
        body=msgspec.msgpack.encode(envelope),
    )


@given(
    total=st.decimals(allow_nan=False, allow_infinity=False),
    at=st.datetimes(timezones=st.just(UTC)),
    seal=st.binary(max_size=40),
    tags=st.frozensets(st.text(max_size=8), max_size=4),
    note=st.none() | st.text(max_size=40),
    parts=st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), max_size=3),
    key=st.none() | st.text(max_size=20),
)
def test_whatever_was_published_arrives_as_it_was(
    total: Decimal,
    at: datetime,
    seal: bytes,
    tags: frozenset[str],
    note: str | None,
    parts: dict[str, int],
    key: str | None,
) -> None:
    event = Placed(
        order=UUID(int=5), total=total, at=at, seal=seal, tags=tags, note=note, parts=parts
    )
    sent = row(event, key=key)
    (came,) = CODEC.decode(CODEC.join([CODEC.encode(sent)]), {"orders.Placed"})
    assert msgspec.structs.replace(came, body=sent.body) == sent
    read = msgspec.msgpack.Decoder(Envelope).decode(came.body)
    was = msgspec.msgpack.Decoder(Envelope).decode(sent.body)
    assert msgspec.structs.replace(read, payload=None) == msgspec.structs.replace(was, payload=None)
    assert msgspec.convert(read.payload, Placed) == event


def test_an_event_is_written_in_the_standards_words() -> None:
    event = Placed(order=UUID(int=5), total=Decimal("1.10"), at=AT, seal=b"\x00")
    body = CODEC.join([CODEC.encode(row(event)), CODEC.encode(row(event, seq=8, key=None))])
    first, second = json.loads(body)
    assert first == {
        "specversion": "1.0",
        "id": "m7",
        "source": "/shop/orders",
        "type": "orders.Placed",
        "time": "2026-11-28T12:30:15.123456Z",
        "sequence": "7",
        "partitionkey": "k",
        "subject": "k",
        "tenant": "acme",
        "authtype": "unknown",
        "authid": "ann",
        "authclaims": '["orders.read","ä,b"]',
        "traceparent": TRACE.traceparent,
        "causationid": "c1",
        "dataversion": 3,
        "datacontenttype": "application/json",
        "data": {
            "order": "00000000-0000-0000-0000-000000000005",
            "total": "1.10",
            "at": "2026-11-28T12:30:15.123456Z",
            "seal": "AA==",
            "tags": [],
            "note": None,
            "parts": {},
        },
    }
    assert not {"partitionkey", "subject"} & second.keys()


def test_only_the_events_asked_for_are_read() -> None:
    rows = [row({"x": 1}, seq=n, name=f"orders.{n}") for n in range(3)]
    body = CODEC.join([CODEC.encode(each) for each in rows])
    assert [r.seq for r in CODEC.decode(body, {"orders.1", "orders.2"})] == [1, 2]
    assert CODEC.decode(CODEC.join([]), {"orders.1"}) == []


def test_data_that_does_not_fit_its_class_goes_on_to_the_handler_that_says_so() -> None:
    other = CloudEventCodec("shop", "orders", {})
    sent = other.encode(row({"order": "no id", "new": [1, 2.5, None]}))
    (came,) = CODEC.decode(CODEC.join([sent]), {"orders.Placed"})
    read = msgspec.msgpack.Decoder(Envelope).decode(came.body)
    assert read.payload == {"order": "no id", "new": [1, 2.5, None]}


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]", b'[{"id":"a"}]', b"\xff", b"[", CODEC.encode(row({}))]
)
def test_what_is_no_batch_of_ours_is_told(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        CODEC.decode(body, {"orders.Placed"})


@pytest.mark.parametrize(
    ("field", "value"), [("sequence", "x"), ("specversion", "0.3"), ("traceparent", "00-1-2-3")]
)
def test_an_event_of_another_kind_is_told(field: str, value: str) -> None:
    event = {**json.loads(CODEC.encode(row({}))), field: value}
    with pytest.raises(msgspec.DecodeError):
        CODEC.decode(json.dumps([event]).encode(), {"orders.Placed"})
