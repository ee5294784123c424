"""Outbox to handle, in batches: a subscription for volume, whose place moves with its effect.

    source's log ──read after its place──> a batch ──handler──> effect and place, one commit

No event comes into a queue, and none needs a row in the inbox: where the unit of work
commits, the place has moved past the batch, and where two processes are at it, the place
lets one of them pass. A batch that fails is tried again, then its events one by one; one
that fails by itself goes to the queue, where it is tried like any other event and ends as
a dead letter, while the others go on.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from tenfold.contracts.envelope import Envelope, Principal
from tenfold.contracts.errors import DeadlineExceededError, LeaseLostError, TenfoldError
from tenfold.contracts.operations import Kind
from tenfold.path.attempts import LONGEST_BACKOFF_S, error_text
from tenfold.path.background import HandlerSpec
from tenfold.path.carrying import decide_ages, decide_entries
from tenfold.path.handle import deadline_error, handle_in_unit
from tenfold.path.limit import Limit
from tenfold.path.module import ModuleRuntime, new_trace
from tenfold.path.operations import Dropping
from tenfold.ports.outbox import Log
from tenfold.ports.records import Delivery, OutboxRow, PlaceMove, SubscriptionKey
from tenfold.ports.transfer import Carried, Follower
from tenfold.ports.unit import Message, Unit

__all__ = ["BatchMessage", "Batches", "decide_batches"]

_log = logging.getLogger("tenfold.batches")
_WHOLE: Final = 2
"""Times that a batch is tried whole before its events are tried one by one."""


class BatchMessage(Message):
    """The message of a batch: which events are in it is not sure until it is committed."""

    __slots__ = ()

    @property
    def repeatable(self) -> bool:
        """See `Message.repeatable`."""
        return False


def decide_batches(rows: Sequence[OutboxRow], singly: int) -> list[list[OutboxRow]]:
    """The batches of a page, in its order: a unit of work is for one tenant.

    Args:
        singly: up to where each event is a batch of its own.
    """

    def kind(row: OutboxRow) -> tuple[str, int]:
        return row.tenant, row.seq if row.seq <= singly else 0

    return [list(batch) for _, batch in itertools.groupby(rows, key=kind)]


class Batches:
    """Implements `Transfer` for one batch subscription: what it carries, it handles.

    Args:
        module: the one that subscribes.
        spec: its handler.
        source: the publishing module's name.
        outbox: its log.
    """

    def __init__(self, module: ModuleRuntime, spec: HandlerSpec, source: str, outbox: Log) -> None:
        self._module = module
        self._spec = spec
        self._source = source
        self._outbox = outbox
        self._target = f"{module.name}.{spec.name}"
        self._key = SubscriptionKey(handler=spec.name, generation=1, source=source)
        sent = msgspec.defstruct("Sent", [("payload", spec.payload)], frozen=True)
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(sent).decode
        self._singly = 0
        """Up to where events are tried one by one, since a batch with them has failed."""
        self._failures = 0
        self._rests_until = 0.0
        """When it tries again, on the monotonic clock, after a failure."""
        self.wake: Callable[[], None] = _nothing
        """Lets whoever carries look again: called when a rest after a failure is over."""
        self.dropping: Dropping | None = None
        """Which kept answers its commits drop; None where they drop none."""

    async def carry(self, followers: Sequence[Follower], after: int, limit: int) -> Carried:
        """Handle up to `limit` events after a position. See `Transfer.carry`.

        What fails is told in the log; nothing more is read until its rest is over.
        """
        (follower,) = followers
        if time.monotonic() < self._rests_until:
            return Carried(read=0, added=0, position=after, lags_s={})
        page = await self._outbox.read(after, follower.events, limit)
        at, done = after, 0
        for batch in decide_batches(page.rows, self._singly):
            at = await self._carry_on(follower, batch, at)
            if at != batch[-1].seq:  # it failed, or another process has come further than this page
                break
            done += len(batch)
        lags_s = decide_ages(page.rows[:done], self._module.resources.clock.now())
        if done < len(page.rows):
            again = time.monotonic() >= self._rests_until
            return Carried(read=limit if again else 0, added=0, position=at, lags_s=lags_s)
        return Carried(
            read=done, added=0, position=max(at, page.position), lags_s=lags_s, held=page.held
        )

    async def _carry_on(self, follower: Follower, batch: list[OutboxRow], after: int) -> int:
        """Handle one batch; where the subscription is now, which is `after` where it failed."""
        started = time.monotonic()
        outcome = "fault"
        try:
            await self._handle(batch, after, started)
            outcome = "ok"
        except (Exception, SystemExit) as error:  # whatever a handler raises
            outcome = _outcome(error)
            place = (await self._module.queue.positions()).get(self._key, after)
            if place > after:
                # Another process was faster, or the connection was lost after the commit.
                outcome = outcome if outcome == "lost" else "ok"
                return place
            return await self._failed(follower, batch, after, error)
        finally:
            stops = self._module.resources.stops
            stops.handle.observe(self._target, outcome, time.monotonic() - started)
        self._failures = 0
        return batch[-1].seq

    async def _handle(self, batch: list[OutboxRow], after: int, started: float) -> None:
        module, spec = self._module, self._spec
        resources = module.resources
        payloads = [self._decode(row.body).payload for row in batch]
        timeout_s = spec.background.timeout_s
        message = BatchMessage(
            self._envelope(batch), Kind.EVENT, module.name, started + timeout_s, None
        )
        message.host = module
        move = PlaceMove(key=self._key, after=after, upto=batch[-1].seq)

        def make_unit() -> Unit:
            unit = Unit(message.envelope.id, message.envelope.tenant, message.deadline)
            unit.place = move
            return unit

        method: Callable[[Any, list[Any]], Awaitable[None]] = spec.method

        async def begin() -> None:
            await method(module.instance, payloads)

        limit = Limit(timeout_s)
        try:
            await limit.run(
                handle_in_unit(
                    message, make_unit, begin, resources.units, resources.ids, resources.stops
                )
            )
        except TimeoutError as error:
            if not limit.expired():
                raise  # the handler's own, not this one
            raise deadline_error(self._target, timeout_s, message) from error
        if self.dropping is not None and message.unit is not None:
            await self.dropping.committed(message, None, message.unit)

    def _envelope(self, batch: list[OutboxRow]) -> Envelope:
        resources = self._module.resources
        return Envelope(
            id=str(resources.ids.uuid()),
            kind=Kind.EVENT,
            target=self._target,
            payload=None,
            # Many have caused these events, and one unit of work acts for all of them.
            principal=Principal(id=f"subscription:{self._target}", permissions=("*",)),
            tenant=batch[0].tenant,
            trace=new_trace(resources.ids, None),
            at=resources.clock.now(),
            cause=batch[0].message_id,
        )

    async def _failed(
        self, follower: Follower, batch: list[OutboxRow], after: int, error: BaseException
    ) -> int:
        """What follows a failure: the same again later, one by one, or the queue."""
        background = self._spec.background
        self._failures += 1
        alone = len(batch) == 1
        if not alone and self._failures >= _WHOLE:
            self._singly, self._failures = batch[-1].seq, 0
        elif alone and self._failures >= background.attempts:
            _log.error(
                "%s failed %d times with one event (%s) and lets it go to the queue, where it is "
                "tried by itself.",
                self._target,
                self._failures,
                batch[0].message_id,
                exc_info=error,
            )
            return await self._give_to_queue(follower, batch[0])
        doubled_s = background.backoff_s * 2.0 ** max(self._failures - 1, 0)
        rest_s = min(doubled_s, LONGEST_BACKOFF_S) * self._module.resources.ids.uniform()
        _log.warning(
            "%s failed with %d events and tries them again%s in %.1f s. %s",
            self._target,
            len(batch),
            "" if self._failures else " one by one",
            rest_s,
            error_text(error),
        )
        self._rests_until = time.monotonic() + rest_s
        asyncio.get_running_loop().call_later(rest_s, self.wake)
        return after

    async def _give_to_queue(self, follower: Follower, row: OutboxRow) -> int:
        """Let one event go to the queue, and move past it, in one transaction."""
        entries = decide_entries(self._source, [follower], [row])
        moved = {self._key: row.seq}
        await self._module.queue.deliver(Delivery(entries=entries, positions=moved))
        self._failures = 0
        return row.seq


def _outcome(error: BaseException) -> str:
    match error:
        case LeaseLostError():
            return "lost"
        case DeadlineExceededError():
            return "timeout"
        case TenfoldError():
            return "error"
        case _:
            return "fault"


def _nothing() -> None:
    return None
