"""The platform's records as parts of a unit's last statement.

Each part is one common table expression that writes, and the values that it
takes. One record is written as values; several as arrays, so that the text does
not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from tenfold.ports.records import (
    EventRecord,
    InboxKey,
    PlaceMove,
    QueueEntry,
    ReplyKey,
    StoredReply,
)
from tenfold.ports.unit import lease_gone, place_gone

__all__ = [
    "FORGET_EXPIRED_REPLY",
    "GONE",
    "HEAD",
    "INBOX_HAS",
    "INBOX_KEY",
    "MOST_EVENTS",
    "REPLIES_KEY",
    "XID_OFFSET",
    "FIND_REPLY",
    "Numbers",
    "entries_sql",
    "entries_values",
    "events_sql",
    "events_values",
    "fence_sql",
    "inbox_sql",
    "inbox_values",
    "move_sql",
    "place_sql",
    "place_values",
    "position_sql",
    "reply_sql",
    "reply_values",
    "stored_reply",
]

MOST_EVENTS = 65_535
"""Events in one unit of work: their place in it has 16 bits of the position."""
INBOX_KEY = "tenfold_inbox_key"
REPLIES_KEY = "tenfold_replies_key"
GONE = {"fence": lease_gone, "place": place_gone}
"""The errors by what the failing function is called with, and so the error's message."""

INBOX_HAS = """
SELECT 1 FROM {s}.tenfold_inbox WHERE message_id = $1 AND handler = $2 AND generation = $3
"""
FIND_REPLY = """
SELECT fingerprint, body, position FROM {s}.tenfold_replies
WHERE scope = $1 AND key = $2 AND expires_at > coalesce($3::timestamptz, clock_timestamp())
"""
FORGET_EXPIRED_REPLY = """
DELETE FROM {s}.tenfold_replies
WHERE scope = $1 AND key = $2 AND expires_at <= coalesce($3::timestamptz, clock_timestamp())
"""
HEAD = """
SELECT greatest(
    (SELECT max(seq) FROM {s}.tenfold_outbox),
    (SELECT value::bigint FROM {s}.tenfold_meta WHERE key = 'outbox_floor'),
    0
)
"""
XID_OFFSET = "SELECT value FROM {s}.tenfold_meta WHERE key = 'xid_offset'"


class Numbers:
    """Hands out the numbers of a text's parameters."""

    def __init__(self, used: int) -> None:
        self.used = used

    def take(self, types: Sequence[str]) -> Iterator[str]:
        """The next parameters, each with the cast to its type."""
        for type_ in types:
            self.used += 1
            yield f"${self.used}::{type_}"


def position_sql(xid_offset: int, count: str) -> str:
    """The position of the transaction's event of this place. See `schema.OUTBOX`."""
    xid = "pg_catalog.pg_current_xact_id()::text::bigint"
    if xid_offset:
        xid = f"({xid} + {xid_offset})"
    return f"({xid} * 65536 + {count})"


def events_sql(schema: str, numbers: Numbers, *, many: bool, xid_offset: int) -> tuple[str, str]:
    """The part that appends to the outbox, and the position of the last event as SQL."""
    into = (
        f"INSERT INTO {schema}.tenfold_outbox (seq, at, message_id, name, tenant, order_key, body)"
    )
    types = ["timestamptz", "text", "text", "text", "text", "bytea"]
    if not many:
        position = position_sql(xid_offset, "1")
        return f"{into} VALUES ({position}, {', '.join(numbers.take(types))})", position
    taken = list(numbers.take([f"{type_}[]" for type_ in types]))
    seq = position_sql(xid_offset, "v.n")
    text = (
        f"{into} SELECT {seq}, v.at, v.message_id, v.name, v.tenant, v.order_key, v.body "
        f"FROM unnest({', '.join(taken)}) WITH ORDINALITY "
        "AS v (at, message_id, name, tenant, order_key, body, n)"
    )
    return text, position_sql(xid_offset, f"cardinality({taken[0]})")


def events_values(events: Sequence[EventRecord]) -> tuple[Any, ...]:
    """The values of `events_sql`, in its order."""
    if len(events) == 1:
        e = events[0]
        return (e.at, e.message_id, e.name, e.tenant, e.order_key, e.body)
    return (
        [e.at for e in events],
        [e.message_id for e in events],
        [e.name for e in events],
        [e.tenant for e in events],
        [e.order_key for e in events],
        [e.body for e in events],
    )


_ENTRY_COLUMNS = (
    ("run_at", "timestamptz"),
    ("source_seq", "bigint"),
    ("priority", "integer"),
    ("generation", "integer"),
    ("lane", "text"),
    ("handler", "text"),
    ("tenant", "text"),
    ("message_id", "text"),
    ("unique_key", "text"),
    ("source", "text"),
    ("body", "bytea"),
)


def entries_sql(schema: str, numbers: Numbers, *, many: bool) -> str:
    """The part that adds to the queue; an entry whose unique key is taken is left out."""
    names = [name for name, _ in _ENTRY_COLUMNS]
    (clock,) = numbers.take(["timestamptz"])
    now = f"coalesce({clock}, clock_timestamp())"
    if many:
        taken = ", ".join(numbers.take([f"{type_}[]" for _, type_ in _ENTRY_COLUMNS]))
        rows = f"unnest({taken}) WITH ORDINALITY AS v ({', '.join(names)}, n)"
    else:
        taken = ", ".join(numbers.take([type_ for _, type_ in _ENTRY_COLUMNS]))
        rows = f"(VALUES ({taken}, 1)) AS v ({', '.join(names)}, n)"
    rest = ", ".join(names[1:])
    return (
        f"INSERT INTO {schema}.tenfold_queue (waits, run_at, {rest}) "
        f"SELECT CASE WHEN v.run_at > c.now THEN 2 ELSE 1 END, coalesce(v.run_at, c.now), "
        f"{', '.join('v.' + name for name in names[1:])} "
        f"FROM (SELECT {now} AS now) AS c, {rows} ORDER BY v.n "
        # The conflict names the partial index of unique keys, so that no other is swallowed.
        "ON CONFLICT (handler, tenant, unique_key) WHERE unique_key IS NOT NULL AND waits > 0 "
        "DO NOTHING"
    )


def entries_values(entries: Sequence[QueueEntry], now: datetime | None) -> tuple[Any, ...]:
    """The values of `entries_sql`, in its order. `now` is None for the store's own clock."""
    if len(entries) == 1:
        e = entries[0]
        return (
            now,
            e.run_at,
            e.source_seq,
            e.priority,
            e.generation,
            e.lane,
            e.handler,
            e.tenant,
            e.message_id,
            e.unique_key,
            e.source,
            e.body,
        )
    return (now, *[[getattr(e, name) for e in entries] for name, _ in _ENTRY_COLUMNS])


def inbox_sql(schema: str, numbers: Numbers) -> str:
    """The part that notes the message's effect; fails on `INBOX_KEY` where it had it before."""
    clock, *rest = numbers.take(["timestamptz", "integer", "text", "text"])
    return (
        f"INSERT INTO {schema}.tenfold_inbox (at, generation, message_id, handler) "
        f"VALUES (coalesce({clock}, clock_timestamp()), {', '.join(rest)})"
    )


def inbox_values(key: InboxKey, now: datetime | None) -> tuple[Any, ...]:
    """The values of `inbox_sql`, in its order."""
    return (now, key.generation, key.message_id, key.handler)


def fence_sql(schema: str, numbers: Numbers) -> str:
    """True where the claim stands; fails the statement where it is gone.

    A claim past its time stands until somebody ends it: only then may its
    entries be claimed again. That it cannot be ended between this look and the
    commit is not needed: the inbox lets one of two effects pass.
    """
    (fence,) = numbers.take(["bigint"])
    return (
        f"CASE WHEN EXISTS (SELECT 1 FROM {schema}.tenfold_claims WHERE fence = {fence}) "
        f"THEN true ELSE {schema}.tenfold_fail('fence') END"
    )


def move_sql(schema: str, numbers: Numbers) -> str:
    """The part that moves a subscription on, unless it is further already."""
    after, upto, generation, handler, source = numbers.take(
        ["bigint", "bigint", "integer", "text", "text"]
    )
    return (
        f"UPDATE {schema}.tenfold_positions SET seq = {upto} WHERE handler = {handler} "
        f"AND generation = {generation} AND source = {source} AND seq <= {after} RETURNING 1"
    )


def place_values(move: PlaceMove) -> tuple[Any, ...]:
    """The values of `move_sql`, in its order."""
    key = move.key
    return (move.after, move.upto, key.generation, key.handler, key.source)


def place_sql(schema: str, moved: str) -> str:
    """True where `moved`, the part of `move_sql`, moved; fails the statement where it did not."""
    return (
        f"CASE WHEN EXISTS (SELECT 1 FROM {moved}) THEN true "
        f"ELSE {schema}.tenfold_fail('place') END"
    )


def reply_sql(schema: str, numbers: Numbers, position: str | None) -> str:
    """The part that stores the reply; fails on `REPLIES_KEY` where one is there.

    Args:
        position: SQL of the position after the commit; None where it is given as a value.
    """
    types = ["timestamptz", "text", "text", "bytea", "bytea"]
    if position is None:
        types.append("bigint")
    taken = list(numbers.take(types))
    if position is not None:
        taken.append(position)
    return (
        f"INSERT INTO {schema}.tenfold_replies "
        f"(expires_at, scope, key, fingerprint, body, position) VALUES ({', '.join(taken)})"
    )


def reply_values(key: ReplyKey, body: bytes, position: int | None) -> tuple[Any, ...]:
    """The values of `reply_sql`, in its order. `position` is None where the SQL has it."""
    values = (key.expires_at, key.scope, key.key, key.fingerprint, body)
    return values if position is None else (*values, position)


def stored_reply(row: Any) -> StoredReply | None:
    """A row of `FIND_REPLY` as the port says it."""
    return None if row is None else StoredReply(fingerprint=row[0], body=row[1], position=row[2])
