"""The ports of background work: a durable queue, and what people see of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tenfold.ports.records import (
    Backlog,
    Cycle,
    Delivery,
    EntryView,
    QueueEntry,
    SubscriptionKey,
    Turn,
)

__all__ = ["Queue", "QueueDesk"]


class Queue(Protocol):
    """One module's durable queue.

    Two workers never hold the same live claim; entries of one lane are worked
    in the order of their ids; a claim that expires counts one attempt for each
    of its entries, which are then claimed singly.
    """

    async def deliver(self, delivery: Delivery) -> int:
        """Add entries and move positions in one transaction.

        A position never goes backwards: an entry whose `source_seq` is not
        above the stored position of its subscription is left out, so that two
        relays cannot deliver it twice. Returns the number of entries added.
        """
        ...

    async def positions(self) -> dict[SubscriptionKey, int]:
        """How far each subscription has been delivered."""
        ...

    async def cycle(self, cycle: Cycle) -> Turn:
        """Finish, renew and claim in one transaction.

        Entries come in order of priority (highest first), then id; those of a lane
        stand in their order, where its first entry stands or behind that. A batch
        takes a lane's run up to its first entry that is not due yet, as far as
        there is room. An entry that runs
        alone is the only one of its claim, and only one such claim lives at a
        time. A finish whose claim is gone changes nothing and is told as lost.
        """
        ...

    async def next_due(self) -> datetime | None:
        """When there is something to claim: an entry falls due, or a claim expires.

        A moment that has passed where an entry can be claimed now; None where
        there is nothing to wait for.
        """
        ...

    async def release_claims(self) -> int:
        """End every claim as lost, and return how many there were.

        For a process that knows itself to be the only one.
        """
        ...

    async def pending(self, handler: str, generation: int, below_seq: int) -> bool:
        """Whether an entry of a subscription from an outbox row up to `below_seq` is unfinished.

        A dead letter is, if it holds its lane.
        """
        ...

    async def add(self, entries: Sequence[QueueEntry]) -> int:
        """Add entries outside any message, such as schedules; unique keys are honoured."""
        ...

    async def trim(self, before: datetime) -> int:
        """Forget inbox records older than `before` and expired replies; returns how many.

        The inbox record of a message that is in the queue still is kept.
        """
        ...


class QueueDesk(Protocol):
    """What people see and do at a queue."""

    async def counts(self) -> dict[str, dict[str, int]]:
        """Entries by handler, then by state (`waiting`, `running`, `dead`). Reads them all."""
        ...

    async def backlog(self) -> Backlog:
        """How much is unfinished, at a cost that does not grow without bound."""
        ...

    async def entries(
        self, *, state: str | None, handler: str | None, after: int, limit: int
    ) -> list[EntryView]:
        """Entries in order of id, `after` exclusive, at most `limit` (1 to 500)."""
        ...

    async def entry(self, entry_id: int) -> EntryView | None:
        """One entry; None where there is none."""
        ...

    async def retry(self, entry_ids: Sequence[int]) -> int:
        """Let dead entries wait again with no attempts counted; returns how many."""
        ...

    async def discard(self, entry_ids: Sequence[int]) -> int:
        """Remove entries that are waiting or dead; returns how many. Running ones stay.

        A lane that a discarded dead letter held goes on.
        """
        ...
