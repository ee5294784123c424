"""The ports of background work: a durable queue, and what people see of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tenfold.ports.records import (
    Claim,
    Cycle,
    Delivery,
    EntryView,
    QueueEntry,
    SubscriptionKey,
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

    async def cycle(self, cycle: Cycle) -> Claim | None:
        """Finish, renew and claim in one transaction; None where nothing was claimed.

        Entries come in order of priority (highest first), then id. A batch
        takes a lane's whole run. A finish whose claim is gone changes nothing.
        """
        ...

    async def next_due(self) -> datetime | None:
        """When the earliest entry falls due that is neither dead nor claimed, or a claim expires."""
        ...

    async def release_claims(self) -> int:
        """End every claim as lost: for a process that knows itself to be the only one."""
        ...

    async def pending(self, handler: str, generation: int, below_seq: int) -> bool:
        """Whether an entry of a subscription from an outbox row up to `below_seq` is unfinished."""
        ...

    async def add(self, entries: Sequence[QueueEntry]) -> int:
        """Add entries outside any message, such as schedules; unique keys are honoured."""
        ...

    async def trim(self, before: datetime) -> int:
        """Forget inbox and reply records older than `before`; returns how many."""
        ...


class QueueDesk(Protocol):
    """What people see and do at a queue."""

    async def counts(self) -> dict[str, dict[str, int]]:
        """Entries by handler, then by state (`waiting`, `running`, `dead`)."""
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
        """Remove entries that are waiting or dead; returns how many. Running ones stay."""
        ...
