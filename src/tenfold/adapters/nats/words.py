"""How topics, records and their headers are said in NATS."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from tenfold.contracts.structs import Struct

__all__ = ["Placed", "header_bytes", "placed", "read_headers", "stream_of", "subject_of", "written"]

_OURS = "Nats-"
"""With this begin the headers that are JetStream's own."""
_PLAIN = re.compile(r"[!-$&-~]*")
_KEPT = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
_LINE = b"NATS/1.0\r\n\r\n"


def stream_of(topic: str, partition: int) -> str:
    """The stream of a partition. A stream's name has no dots, and a topic's no `=`."""
    return f"{topic.replace('.', '=')}-{partition}"


def subject_of(topic: str, partition: int) -> str:
    """What is published to a partition's stream."""
    return f"tenfold.{topic.replace('.', '=')}.{partition}"


def written(headers: Mapping[str, str]) -> dict[str, str] | None:
    """Headers as NATS carries them: values percent-encoded, for they are lines of ASCII.

    As the NATS binding of CloudEvents has it (section 3.2.3).
    """
    if not headers:
        return None
    return {
        name: value if _PLAIN.fullmatch(value) else quote(value, safe=_KEPT)
        for name, value in headers.items()
    }


def read_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """What `written` made, as it was."""
    return {
        name: unquote(value) if "%" in value else value
        for name, value in (headers or {}).items()
        if not name.startswith(_OURS)
    }


def header_bytes(headers: Mapping[str, str] | None) -> int:
    """How much of a message's size they are."""
    if headers is None:
        return 0
    return len(_LINE) + sum(len(name) + len(value) + 4 for name, value in headers.items())


class Placed(Struct):
    """Where a message lies, as its reply subject tells it. `number` counts for its consumer."""

    consumer: str
    sequence: int
    number: int
    at_ns: int


def placed(reply: str) -> Placed:
    """Read `$JS.ACK.[domain.account.]stream.consumer.tries.sequence.number.at.pending[.token]`."""
    fields = reply.split(".")
    fields = fields[2:] if len(fields) < 11 else fields[4:]
    return Placed(
        consumer=fields[1], sequence=int(fields[3]), number=int(fields[4]), at_ns=int(fields[5])
    )
