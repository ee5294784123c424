"""The desk: what people ask of and do to a running product's background work.

One contract serves the command line, whether the product runs in another
process or is opened in this one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Protocol

import msgspec

from tenfold.contracts.contract import Contract
from tenfold.contracts.operations import command, query
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.scalars import Instant
from tenfold.contracts.structs import Struct

__all__ = [
    "Backlog",
    "Desk",
    "EntryDetail",
    "EntrySummary",
    "HandlerCounts",
    "NoSuchEntry",
    "NoSuchName",
    "NotReplayable",
    "ProjectionStatus",
    "Replayed",
]

Limit = Annotated[int, msgspec.Meta(ge=1, le=500)]
EntryId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Position = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
ReplayRun = Annotated[int, msgspec.Meta(ge=2, le=2**31 - 1)]
EntryState = Annotated[str, msgspec.Meta(pattern="^(waiting|running|dead)$")]


class HandlerCounts(Struct):
    """How many entries of one handler there are in each state."""

    module: str
    handler: str
    waiting: int = 0
    running: int = 0
    dead: int = 0


class EntrySummary(Struct):
    """One piece of background work. `ref` is how people name it: `module:number`."""

    ref: str
    module: str
    id: int
    handler: str
    state: str
    attempts: int
    run_at: Instant
    priority: int
    lane: str | None
    last_error: str | None


class EntryDetail(EntrySummary):
    """One piece of background work with what it carries. `message` is its envelope as JSON."""

    message_id: str
    tenant: str
    generation: int
    message: str


class ProjectionStatus(Struct):
    """Which generation of a projection answers, and which is being built.

    `behind` counts the events that the one being built (else the one that
    answers) has still to see, up to 1,000 for each source.
    """

    module: str
    name: str
    active: int
    building: int | None
    behind: int


class Backlog(Struct):
    """What is still to be done: `undelivered` events, entries `due`, `later`, `running`, `dead`.

    `later` wait for a time to come, such as a retry's. Events are counted up to
    1,000 for each pair of modules.
    """

    undelivered: int
    due: int
    later: int
    running: int
    dead: int
    next_due: datetime | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing is left but what is dead or waits for a time to come."""
        return not (self.undelivered or self.due or self.running)


class Replayed(Struct):
    """A bite of a replay: where it ends, where the replay will, how much of it still waits.

    `run` is the replay's number; with it and `position` the replay goes on.
    """

    run: int
    position: int
    upto: int
    added: int
    waiting: int

    @property
    def ended(self) -> bool:
        """Whether all of it was queued."""
        return self.position >= self.upto


class NotReplayable(Refusal, status=409):
    """This handler cannot be given past events; `why` says what to do instead."""

    name: str
    why: str


class NoSuchName(Refusal, status=404):
    """The product has no module, handler or projection of this name."""

    name: str
    known: list[str]


class NoSuchEntry(Refusal, status=404):
    """The queue has no such entry; it may have been done since."""

    ref: str


class Desk(Contract, Protocol):
    """The platform's own operations on a product."""

    @query(who="internal", raises=[NoSuchName])
    async def queue_counts(self, module: str | None = None) -> list[HandlerCounts]:
        """Entries by module and handler, in order of both."""
        ...

    @query(who="internal", raises=[NoSuchName])
    async def queue_entries(
        self,
        module: str | None = None,
        state: EntryState | None = None,
        handler: str | None = None,
        limit: Limit = 50,
    ) -> list[EntrySummary]:
        """The first entries of each module, in order of module, then number."""
        ...

    @query(who="internal", raises=[NoSuchName, NoSuchEntry])
    async def queue_entry(self, module: str, entry_id: EntryId) -> EntryDetail:
        """One entry with what it carries."""
        ...

    @command(who="internal", raises=[NoSuchName])
    async def queue_retry(self, module: str, entry_ids: list[EntryId]) -> int:
        """Let dead entries wait again with no attempts counted; returns how many."""
        ...

    @command(who="internal", raises=[NoSuchName])
    async def queue_discard(self, module: str, entry_ids: list[EntryId]) -> int:
        """Remove entries that wait or are dead; returns how many."""
        ...

    @command(who="internal", raises=[NoSuchName])
    async def queue_cancel(self, module: str, entry_ids: list[EntryId]) -> int:
        """Cancel entries that are running, which makes them dead letters; returns how many."""
        ...

    @command(who="internal", raises=[NoSuchName, NotReplayable])
    async def queue_replay(
        self,
        module: str,
        handler: str,
        after: Position | None = None,
        since: Instant | None = None,
        upto: Position | None = None,
        run: ReplayRun | None = None,
        limit: Limit = 500,
    ) -> Replayed:
        """Queue past events for a subscription again: those after a position or since a moment.

        Without either, all that its publisher's log has. Without `run` it is a new replay,
        up to the present end of the log; with it one goes on that was begun before. Two that
        are begun in one second are one: what both queue has its effect once.
        """
        ...

    @query(who="internal")
    async def projections(self) -> list[ProjectionStatus]:
        """Every projection, in order of module, then name."""
        ...

    @command(who="internal", raises=[NoSuchName])
    async def rebuild_projection(
        self, module: str, name: str, anew: bool = False, partial: bool = False
    ) -> int:
        """Begin to build a new generation from all events; returns its number.

        The old one answers until the new one has caught up and takes its place.
        One that was cut short goes on, unless `anew`; a trimmed log is refused,
        unless `partial`.
        """
        ...

    @query(who="internal")
    async def backlog(self) -> Backlog:
        """What is still to be done, over all modules."""
        ...

    @query(who="internal", timeout_s=300)
    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do at present; False when the time was up first."""
        ...
