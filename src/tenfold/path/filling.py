"""Fills: one computation for each answer that is asked for, in this process and in the fleet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import NamedTuple

import msgspec

from tenfold.contracts.envelope import Envelope
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    OverloadedError,
    StoreUnavailableError,
)
from tenfold.path.cache_counts import CacheCounts
from tenfold.path.fills import FillPositions
from tenfold.path.handle import deadline_error
from tenfold.path.kept import Kept, Life, Trail, decide_covered, decide_use
from tenfold.path.operations import CompiledOperation, Operation
from tenfold.ports.cache import Cache, CacheUnavailableError, Claim, FirstTier, Found, Slot, Wish
from tenfold.ports.unit import Message

__all__ = ["Fill", "FillParts", "Filled", "Filler"]

_log = logging.getLogger("tenfold.path")
_encode = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(Kept).decode
_SHORTEST_LEASE_S = 2.0
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05
_BETTER_OLD = (HandlerFaultError, StoreUnavailableError, DeadlineExceededError, OverloadedError)
"""Errors that an old answer is better than. A refusal is an answer, and newer than the old one."""


class Fill:
    """One fill that is wanted: what to compute, for whom, and where to keep it.

    `token` is what its caller has seen. `early_left_s` is how long the present
    answer is still kept, where it is replaced early.
    """

    __slots__ = (
        "arguments",
        "counts",
        "early_left_s",
        "envelope",
        "life",
        "operation",
        "rank",
        "slot",
        "token",
    )

    def __init__(
        self,
        *,
        operation: CompiledOperation,
        envelope: Envelope,
        arguments: msgspec.Struct,
        slot: Slot,
        token: str | None,
        life: Life,
        counts: CacheCounts,
    ) -> None:
        self.operation = operation
        self.envelope = envelope
        self.arguments = arguments
        self.slot = slot
        self.token = token
        self.life = life
        self.counts = counts
        self.early_left_s: float | None = None
        self.rank = 0

    @property
    def lease_s(self) -> float:
        """Seconds after which another process may compute the same."""
        return max(self.operation.timeout_s, _SHORTEST_LEASE_S)


class Filled(msgspec.Struct, frozen=True):
    """What a fill ended with: an answer, and for how long it is still kept."""

    kept: Kept
    left_s: float
    stale: bool = False


class FillParts(msgspec.Struct, frozen=True):
    """What a filler works with. `live` says whether the first tier may be written."""

    near: FirstTier
    far: Cache | None
    positions: FillPositions
    live: Callable[[], bool]


class _Running(NamedTuple):
    task: asyncio.Task[Filled]
    tags: tuple[str, ...]
    number: int
    past: bool
    """Whether it computes, whatever is kept."""


class Filler:
    """Runs the fills of one process, one at a time for each slot."""

    def __init__(self, parts: FillParts) -> None:
        self._parts = parts
        self._running: dict[tuple[bytes, bool], _Running] = {}
        """By key, and whether it replaces early what is still good."""
        self.begun = 0
        """How many fills have begun so far: the number of the newest."""
        self._tasks: set[asyncio.Task[Filled]] = set()

    def run(self, fill: Fill, *, since: int | None = None) -> tuple[asyncio.Future[Filled], bool]:
        """The fill of this slot that runs, or a new one.

        Args:
            since: `begun` as it was when a caller asked to whom what is kept is too old. It
                gets what was computed from then on: all that it has seen is in that.
        Returns: it, and whether it is a new one.
        """
        key = (fill.slot.key, fill.early_left_s is not None)
        running = self._running.get(key) or self._early(fill)
        if running is not None and (since is None or (running.past and running.number > since)):
            return running.task, False
        past = since is not None
        # A context of its own: nothing of whoever asked first shows in it.
        task = asyncio.get_running_loop().create_task(
            self._bounded(fill, past=past), context=Context()
        )
        self.begun += 1
        self._running[key] = _Running(task, fill.slot.tags, self.begun, past)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(key, fill, done))
        return task, True

    def _early(self, fill: Fill) -> _Running | None:
        """A fill begun early may be joined, unless it ends where another process has the lease."""
        return self._running.get((fill.slot.key, True)) if self._parts.far is None else None

    def part(self, tags: Sequence[str]) -> None:
        """Let nobody join a fill that began before these tags were dropped."""
        dropped = set(tags)
        for key, running in list(self._running.items()):
            if not dropped.isdisjoint(running.tags):
                del self._running[key]

    def part_all(self) -> None:
        """Let nobody join any fill that runs."""
        self._running.clear()

    async def stop(self) -> None:
        """End every fill."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, key: tuple[bytes, bool], fill: Fill, task: asyncio.Task[Filled]) -> None:
        self._tasks.discard(task)
        running = self._running.get(key)
        if running is not None and running.task is task:
            del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            fill.counts.failed += 1
            if fill.early_left_s is not None:  # nobody waits for it
                _log.warning("%s could not be computed early. %s", fill.operation.target, error)

    async def _bounded(self, fill: Fill, *, past: bool) -> Filled:
        operation = fill.operation
        deadline = time.monotonic() + operation.timeout_s
        message = Message(fill.envelope, operation.kind, operation.module.name, deadline, None)
        message.host = operation.module
        message.decision = True
        try:
            async with asyncio.timeout(operation.timeout_s) as limit:
                return await self._fetch(fill, message, past=past)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise deadline_error(operation.target, operation.timeout_s, message) from error

    async def _fetch(self, fill: Fill, message: Message, *, past: bool) -> Filled:
        """From the shared tier, else from the handler."""
        parts = self._parts
        begun = parts.near.begun_nowait()
        near = parts.near.find_nowait(fill.slot.key) if parts.live() else None
        old = self._old(fill, near)
        if parts.far is None:
            return await self._compute(fill, message, begun, None, old)
        claim: Claim | None = None
        try:
            if fill.early_left_s is None and not past:
                found = (await parts.far.find([fill.slot]))[0]
                if (filled := self._use(fill, found, begun)) is not None:
                    return filled
                old = old or self._old(fill, found)
            claim = await self._claimed(fill, past=past)
            if (filled := self._use(fill, claim.found, begun)) is not None:
                return filled
        except CacheUnavailableError:
            fill.counts.without += 1
        return await self._compute(fill, message, begun, claim, old)

    async def _claimed(self, fill: Fill, *, past: bool) -> Claim:
        """The slot's lease; or what another has filled meanwhile; or neither, after a bound."""
        far = self._parts.far
        assert far is not None
        life = fill.life
        least_s = life.stale_s
        if fill.early_left_s is not None:
            least_s = (fill.early_left_s + life.keep_s) / 2
        wish = Wish(
            lease_s=fill.lease_s,
            life_s=life.keep_s,
            # A caller who has seen more than is kept takes nothing that was kept before it came.
            least_left_s=life.keep_s if past else least_s,
            least_rank=fill.rank,
        )
        until_s = time.monotonic() + fill.operation.timeout_s / 2
        pause_s = _FIRST_PAUSE_S
        while True:
            claim = await far.claim(fill.slot, wish)
            if claim.granted or claim.found is not None or fill.early_left_s is not None:
                return claim
            if past or time.monotonic() >= until_s:
                return claim
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _use(self, fill: Fill, found: Found | None, begun: int) -> Filled | None:
        """What the shared tier has, if it will do; then the first tier keeps it too."""
        if found is None or decide_use(fill.life, found.left_s) != "fresh":
            return None
        kept = _decode_kept(found.value)
        if decide_covered(kept, fill.token) == "older":
            fill.counts.passed += 1
            return None
        fill.counts.shared += 1
        self._keep_near(fill, begun, found.value, kept.rank, found.left_s)
        return Filled(kept=kept, left_s=found.left_s)

    def _old(self, fill: Fill, found: Found | None) -> Filled | None:
        if found is None or decide_use(fill.life, found.left_s) != "old":
            return None
        return Filled(kept=_decode_kept(found.value), left_s=found.left_s, stale=True)

    async def _compute(
        self, fill: Fill, message: Message, begun: int, claim: Claim | None, old: Filled | None
    ) -> Filled:
        """Run the handler, and keep what it answers."""
        parts, life = self._parts, fill.life
        if fill.early_left_s is not None and claim is not None and not claim.granted:
            raise asyncio.CancelledError  # another process computes it already
        started = time.perf_counter()
        try:
            before = await parts.positions.before(fill.operation)
            message.trail = trail = Trail(None)
            trail.asked = asked = list[Operation]()
            value = await fill.operation.answer(message, fill.arguments)
            shows = await parts.positions.after()
        except BaseException as error:
            await self._give_back(fill, claim)
            if old is not None and isinstance(error, _BETTER_OLD):
                fill.counts.stale += 1
                _log.warning(
                    "%s was answered with an older answer. %s", fill.operation.target, error
                )
                return old
            raise
        fill.counts.computed += 1
        fill.counts.early += fill.early_left_s is not None
        cost_s = time.perf_counter() - started
        covers, reach = parts.positions.covered(fill.operation, before, asked)
        rank = before.heads[fill.operation.module.name]
        kept = Kept(_encode(value), cost_s, covers, shows, rank, reach)
        body = _encode(kept)
        if await self._keep_far(fill, claim, body, rank) and self._keep_near(
            fill, begun, body, rank, life.keep_s
        ):
            return Filled(kept=kept, left_s=life.keep_s)
        fill.counts.outdated += 1
        return Filled(kept=kept, left_s=life.keep_s)

    async def _keep_far(self, fill: Fill, claim: Claim | None, body: bytes, rank: int) -> bool:
        """Keep an answer in the shared tier; false where it is outdated already."""
        far = self._parts.far
        if far is None or claim is None:
            return True
        try:
            return await far.fill(fill.slot, claim, body, rank=rank, keep_s=fill.life.keep_s)
        except CacheUnavailableError:
            fill.counts.without += 1
            return True

    def _keep_near(self, fill: Fill, begun: int, body: bytes, rank: int, left_s: float) -> bool:
        parts = self._parts
        if not parts.live():
            return True
        return parts.near.keep_nowait(fill.slot, begun, body, rank=rank, keep_s=left_s)

    async def _give_back(self, fill: Fill, claim: Claim | None) -> None:
        far = self._parts.far
        if far is None or claim is None or not claim.granted:
            return
        try:
            await far.release(fill.slot, claim)
        except (CacheUnavailableError, asyncio.CancelledError):
            fill.counts.without += 1  # the lease ends by itself
