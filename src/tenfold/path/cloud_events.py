"""Events as CloudEvents 1.0, in JSON batches: how they travel through a broker.

What a module's contract says of an event decides how its data is written and read,
so that every value arrives as it was sent. The attributes beside CloudEvents' own are
its documented extensions where there is one: `sequence`, `partitionkey`, `traceparent`
and `authid` with `authclaims`; `tenant`, `causationid` and `dataversion` are ours.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from tenfold.contracts.envelope import Envelope, Principal, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.path.module import StoredEnvelope
from tenfold.ports.records import OutboxRow

__all__ = ["CONTENT_TYPE", "CloudEventCodec"]

CONTENT_TYPE: Final = "application/cloudevents-batch+json; charset=UTF-8"
_decode_envelope = msgspec.msgpack.Decoder(StoredEnvelope).decode
_encode_envelope = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder().encode
_decode_claims = msgspec.json.Decoder(tuple[str, ...]).decode


_Decode = Callable[[Any], Any]


class _CloudEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    source: str
    type: str
    time: datetime
    sequence: str
    tenant: str
    authid: str
    authclaims: str
    traceparent: str
    authtype: str
    datacontenttype: str
    specversion: Literal["1.0"]
    data: msgspec.Raw
    partitionkey: str | None = None
    subject: str | None = None
    causationid: str | None = None
    dataversion: int = 1

    def __post_init__(self) -> None:
        if not self.sequence.isdecimal():
            raise ValueError(f"`sequence` is {self.sequence!r} and not a number")


_decode_batch = msgspec.json.Decoder(list[_CloudEvent]).decode


class CloudEventCodec:
    """Writes and reads the events of one module.

    Args:
        product: its name, for the `source` of events.
        module: the one that publishes them.
        events: their classes, by `module.EventName`. One that is not known travels
            as what its data looks like.
    """

    def __init__(self, product: str, module: str, events: Mapping[str, type]) -> None:
        self._source = f"/{product}/{module}"
        self._stored: dict[str, _Decode] = {
            name: msgspec.msgpack.Decoder(kind).decode for name, kind in events.items()
        }
        self._sent: dict[str, _Decode] = {
            name: msgspec.json.Decoder(kind).decode for name, kind in events.items()
        }

    def encode(self, row: OutboxRow) -> bytes:
        """One event of the log as JSON. A batch is several, as `join` puts them together.

        Data that does not fit its class, since that has changed, travels as it is.
        """
        envelope = _decode_envelope(row.body)
        data = _read(self._stored.get(row.name), msgspec.msgpack.decode, envelope.payload)
        return _encode_json(
            _CloudEvent(
                id=row.message_id,
                source=self._source,
                type=row.name,
                time=row.at,
                sequence=str(row.seq),
                tenant=row.tenant,
                authid=envelope.principal.id,
                authclaims=_encode_json(envelope.principal.permissions).decode(),
                traceparent=envelope.trace.traceparent,
                authtype="unknown",
                datacontenttype="application/json",
                specversion="1.0",
                data=msgspec.Raw(_encode_json(data)),
                partitionkey=row.order_key,
                subject=row.order_key,
                causationid=envelope.cause,
                dataversion=envelope.version,
            )
        )

    @staticmethod
    def join(events: Sequence[bytes]) -> bytes:
        """A batch of encoded events; an empty one is a batch too."""
        return b"[" + b",".join(events) + b"]"

    def decode(self, body: bytes, names: Container[str]) -> list[OutboxRow]:
        """The events of these names in a batch, as rows of the log that they came from.

        Data that does not fit its event's class is given as it is: its handler says what
        is wrong with it, and it ends as a dead letter instead of stopping all others.

        Raises: msgspec.DecodeError: it is no batch of CloudEvents of ours.
        """
        return [self._row(event) for event in _decode_batch(body) if event.type in names]

    def _row(self, event: _CloudEvent) -> OutboxRow:
        trace = TraceContext.parse(event.traceparent)
        if trace is None:
            raise msgspec.ValidationError(f"`traceparent` is {event.traceparent!r}")
        envelope = Envelope(
            id=event.id,
            kind=Kind.EVENT,
            target=event.type,
            payload=_read(self._sent.get(event.type), msgspec.json.decode, event.data),
            principal=Principal(id=event.authid, permissions=_decode_claims(event.authclaims)),
            tenant=event.tenant,
            trace=trace,
            at=event.time,
            order_key=event.partitionkey,
            cause=event.causationid,
            version=event.dataversion,
        )
        return OutboxRow(
            seq=int(event.sequence),
            message_id=event.id,
            name=event.type,
            tenant=event.tenant,
            order_key=event.partitionkey,
            at=event.time,
            body=_encode_envelope(envelope),
        )


def _read(decode: _Decode | None, plain: _Decode, data: msgspec.Raw) -> Any:
    """Data as its class has it, or as it looks where it does not fit, or nobody knows the class."""
    if decode is not None:
        try:
            return decode(data)
        except msgspec.ValidationError:
            pass
    return plain(data)
