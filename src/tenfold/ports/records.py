"""The rows that travel between the path and a store: events, entries, keys, positions."""

from __future__ import annotations

from datetime import datetime

import msgspec

from tenfold.contracts.structs import Struct

__all__ = [
    "BACKLOG_LIMIT",
    "Backlog",
    "Claim",
    "Claimed",
    "Cycle",
    "Delivery",
    "EntryView",
    "EventRecord",
    "Finish",
    "InboxKey",
    "OutboxPage",
    "OutboxRow",
    "PlaceMove",
    "QueueEntry",
    "ReplyKey",
    "StoredReply",
    "SubscriptionKey",
    "Turn",
]


class EventRecord(Struct):
    """One published event on its way into the outbox. `body` is its envelope, as MessagePack."""

    message_id: str
    name: str
    tenant: str
    order_key: str | None
    at: datetime
    body: bytes


class OutboxRow(Struct):
    """One event in the outbox. `seq` grows in commit order within one epoch."""

    seq: int
    message_id: str
    name: str
    tenant: str
    order_key: str | None
    at: datetime
    body: bytes


class OutboxPage(Struct):
    """What was read of an outbox, in order of `seq`.

    `position` is how far was looked, other events included: the next read begins after it.
    `held`: events are committed that may not be read yet, since an older transaction is
    still open; nobody tells when it ends, so look again soon.
    """

    rows: list[OutboxRow]
    position: int
    held: bool = False


class PlaceMove(Struct):
    """How far a subscription has come with what a unit of work does.

    It moves from `after` or below to `upto`; where it is further already, another process
    has done this work, and the unit leaves nothing.
    """

    key: SubscriptionKey
    after: int
    upto: int

    def __post_init__(self) -> None:
        if self.upto <= self.after:
            raise ValueError(f"A place moves forward, not from {self.after} to {self.upto}")


class QueueEntry(Struct):
    """One piece of background work on its way into a queue.

    `handler` is the module's own name of the job, schedule or subscription
    (`projection.method` for a projection). `lane` is what is worked in order;
    None for work without an order. `run_at=None` means at once, by the store's
    clock. With `unique_key`, nothing is added while an entry of the same
    handler, tenant and key is waiting or running. `source`/`source_seq` name
    the outbox row that an event came from.
    """

    message_id: str
    handler: str
    tenant: str
    body: bytes
    generation: int = 1
    lane: str | None = None
    priority: int = 0
    run_at: datetime | None = None
    unique_key: str | None = None
    source: str | None = None
    source_seq: int | None = None


class SubscriptionKey(Struct, frozen=True):
    """A subscriber's place in one source's outbox."""

    handler: str
    generation: int
    source: str


class Delivery(Struct):
    """What a relay hands to a queue in one transaction: entries, and how far it has read."""

    entries: list[QueueEntry]
    positions: dict[SubscriptionKey, int]


class InboxKey(Struct, kw_only=False):
    """What makes an effect happen once: inserted in the unit of work that has the effect."""

    message_id: str
    handler: str
    generation: int


class Claimed(Struct, kw_only=False):
    """One claimed entry. `attempt` counts from 1; `alone` after its claim was lost once.

    `suspect`: a claim was lost that held it alone, so that it is likely to be the cause.
    Thousands are made a second, so it may be made by position, a fifth of the cost.
    """

    id: int
    message_id: str
    handler: str
    generation: int
    lane: str | None
    attempt: int
    body: bytes
    alone: bool = False
    suspect: bool = False


class Claim(Struct):
    """A batch held under one lease. `fence` is its number, on which completing writes depend."""

    fence: int
    entries: list[Claimed]


class Finish(Struct):
    """What became of entries of one claim.

    `done` leave the queue. `retries` maps an entry to its next `run_at` and its
    error; `dead` to its error; `holding` are those of `dead` that keep their
    lane closed. `returned` were not begun and wait again, unchanged.
    `postponed` maps an entry to its next `run_at` and the reason, without
    counting an attempt. What is named nowhere stays claimed, and its lease is
    renewed.
    """

    fence: int
    done: list[int]
    retries: dict[int, tuple[datetime, str]]
    dead: dict[int, str]
    holding: list[int]
    returned: list[int]
    postponed: dict[int, tuple[datetime, str]] = msgspec.field(default_factory=dict)


class Cycle(Struct):
    """One turn of a worker at its queue: finish, renew, then claim at most `want` entries.

    `renew` are fences whose leases go on. `lease_s` is in seconds on the store's clock.
    """

    finished: list[Finish]
    renew: list[int]
    want: int
    lease_s: float


class Turn(Struct):
    """What a turn gave: a claim, where something could be claimed.

    `lost` are the fences, finished or renewed by this turn, whose claims were
    gone: nothing was recorded for them, and their entries may be another's.
    """

    claim: Claim | None
    lost: list[int]


class ReplyKey(Struct):
    """A keyed command: its scope (principal, tenant, operation), key and request's fingerprint."""

    scope: str
    key: str
    fingerprint: bytes
    expires_at: datetime


class StoredReply(Struct):
    """What a keyed command answered the first time. `position` is the outbox's after its commit."""

    fingerprint: bytes
    body: bytes
    position: int


BACKLOG_LIMIT = 100_000
"""Where the counts of a `Backlog` stop."""


class Backlog(Struct):
    """How much of a queue is unfinished, cheaply; counts stop at `BACKLOG_LIMIT`.

    `due` may be worked now or is; `later` waits for its moment; `dead` are dead
    letters. `oldest_due_at` is since when the first in line has been due, the
    oldest of those of each priority; None where none is due.
    """

    due: int
    later: int
    dead: int
    oldest_due_at: datetime | None


class EntryView(Struct):
    """A queue entry as people see it. `state` is `waiting`, `running` or `dead`."""

    id: int
    message_id: str
    handler: str
    generation: int
    tenant: str
    state: str
    lane: str | None
    priority: int
    run_at: datetime
    attempts: int
    last_error: str | None
    body: bytes
