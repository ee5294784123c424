"""Projections: how far they have come, and how they are rebuilt while they serve.

    begin a generation ──> relay: the whole log, paced ──> queue ──> its own tables
                                        │ caught up
                                        v
                             swap: it answers; then the old one is dropped

A rebuild is resumable: what it has read and what is queued is stored like any
subscription's, so after a kill it goes on where it was. Where several processes
share the database, one of them builds; any may ask for it, and all learn of the
swap before the old generation is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from tenfold.contracts.errors import TenfoldError
from tenfold.contracts.structs import Struct
from tenfold.path.attempts import error_text
from tenfold.path.progress import StoredProgress
from tenfold.path.relay import Feed, Relay
from tenfold.path.signals import Signal
from tenfold.ports.outbox import Log
from tenfold.ports.projections import Generations
from tenfold.ports.queue import Queue, QueueDesk
from tenfold.ports.records import Claimed, EntryView

__all__ = [
    "LogTrimmedError",
    "ProjectionParts",
    "Projections",
    "RebuildFailedError",
    "RebuildProgress",
    "UnknownProjectionError",
]

_log = logging.getLogger("tenfold.projection")
NEAR = 1000
"""Events that a generation may lack at the swap; what it lacks is on its way to it."""
LOOK_S = 0.5
REBUILD_PRIORITY = -50


class RebuildFailedError(TenfoldError):
    """A rebuild met an event that its projection cannot take; the old generation still serves."""

    code = "projection.rebuild_failed"


class LogTrimmedError(TenfoldError):
    """A rebuild would read a log of which a part was forgotten, and build less than there was."""

    code = "projection.log_trimmed"


class UnknownProjectionError(TenfoldError):
    """A projection was named that the module does not have."""

    code = "projection.unknown"


class RebuildProgress(Struct):
    """How far a rebuild has come: positions passed, of how many, in all its sources together.

    Where many processes write a log, its positions have gaps: only the ratio means anything.
    """

    projection: str
    generation: int
    read: int
    of: int


class ProjectionParts(Struct):
    """What a module's projections work with.

    `feeds` are those of each projection, by its name. `moved` fires when entries
    of the queue were finished. `on_swap` is told of every generation that begins
    to answer here, before the swap's caller goes on.

    `shared` says that other processes relay and work too. `on_change` is called when
    this process has begun or swapped a generation: to tell them, so that they `refresh`.
    For `grace_s` seconds after a swap the old generation is kept for those that have not.
    """

    module: str
    generations: Generations
    queue: Queue
    desk: QueueDesk
    relay: Relay
    sources: dict[str, Log]
    feeds: dict[str, Sequence[Feed]]
    moved: Signal
    on_swap: Callable[[str, int], None] = lambda name, generation: None
    shared: bool = False
    on_change: Callable[[], None] = lambda: None
    grace_s: float = 0.0


class Projections:
    """The projections of one module."""

    def __init__(self, parts: ProjectionParts) -> None:
        self._parts = parts
        self._active: dict[str, int] = {}
        self._stored = StoredProgress(
            parts.queue, parts.sources, parts.feeds, self.active, parts.moved
        )

    async def load(self) -> list[str]:
        """Learn which generations answer, and follow those that are being built.

        Returns: projections whose rebuild was cut short; hand each to `rebuild`.
        """
        states = await self._parts.generations.state()
        self._active = {name: states[name].active for name in self._parts.feeds}
        unfinished = []
        for name in self._parts.feeds:
            building = states[name].building
            if building is not None:
                self._parts.relay.follow(self._shadow(name, building))
                unfinished.append(name)
        return unfinished

    async def refresh(self) -> list[str]:
        """Learn what other processes have changed: answer from what they have swapped in.

        Returns: the projections that are being built. The process that leads hands
            each to `rebuild`, unless it is building it already.
        """
        async with self._parts.relay.exchanging() as away:
            # Read under the hold, so that a generation begun here meanwhile is not taken for one
            # that another process has given up.
            states = await self._parts.generations.state()
            for feed in self._parts.relay.feeds:
                state = states.get(feed.handler.partition(".")[0]) if feed.projected else None
                if state is not None and feed.generation not in (state.active, state.building):
                    away.append(feed.key)
        for name in self._parts.feeds:
            await self._answer_from(name, states[name].active)
        return [name for name in self._parts.feeds if states[name].building is not None]

    def active(self, name: str) -> int:
        """The generation of a projection that answers, as far as this process knows."""
        return self._active[name]

    def active_feeds(self) -> list[Feed]:
        """The feeds of the generations that answer: what the relay begins with."""
        return [
            _of_generation(feed, self._active[name])
            for name, feeds in self._parts.feeds.items()
            for feed in feeds
        ]

    def obsolete(self, entry: Claimed) -> bool:
        """Whether an entry is of a generation that was dropped: numbers only grow."""
        name, dot, _ = entry.handler.partition(".")
        return bool(dot) and entry.generation < self._active.get(name, 0)

    async def reached(self, projection: str, source: str, position: int) -> bool:
        """Whether the generation that answers has worked every event of `source` up to `position`.

        A projection that does not follow the source has nothing to wait for.
        """
        if self._parts.shared:
            return await self._stored.reached(projection, source, position)
        for feed in self._parts.feeds[projection]:
            if feed.source != source:
                continue
            key = _of_generation(feed, self._active[projection]).key
            if self._parts.relay.position(key) < position:
                return False
            if await self._parts.queue.pending(key.handler, key.generation, position):
                return False
        return True

    async def wait(self) -> None:
        """Until entries of the queue were finished or delivered, or a moment has passed."""
        if self._parts.shared:
            await self._stored.wait()
        else:
            await self._parts.moved.wait(LOOK_S)

    async def ask(self, name: str, *, anew: bool = False, partial: bool = False) -> int:
        """Begin a generation for the process that leads to build, and return its number.

        One that is being built already goes on, unless it is to be begun `anew`;
        `partial` as in `rebuild`.

        Raises: UnknownProjectionError, LogTrimmedError (NOT_DONE).
        """
        self._refuse_unknown(name)
        return await self._begin(name, resume=not anew, partial=partial)

    async def rebuild(
        self,
        name: str,
        on_progress: Callable[[RebuildProgress], None],
        *,
        resume: bool = True,
        partial: bool = False,
    ) -> int:
        """Build a projection anew from the log, beside the one that serves, and swap.

        Args:
            on_progress: told now and then how far it has come.
            resume: go on with a rebuild that was cut short; otherwise begin anew.
            partial: build it from what is left of a log that was trimmed.
        Returns: the generation that answers now.
        Raises: UnknownProjectionError, LogTrimmedError (NOT_DONE); RebuildFailedError (NOT_DONE) at
            an event that cannot be taken: the old generation goes on serving, and
            a further call goes on from there.
        """
        self._refuse_unknown(name)
        generation = await self._begin(name, resume=resume, partial=partial)
        shadow = self._shadow(name, generation)
        self._parts.relay.follow(shadow)
        await self._catch_up(name, generation, shadow, on_progress)
        await self._swap(name, generation)
        return generation

    async def _begin(self, name: str, *, resume: bool, partial: bool) -> int:
        building = (await self._parts.generations.state())[name].building
        if building is not None and resume:
            return building
        if not partial:
            await self._refuse_trimmed(name)
        away = [] if building is None else [feed.key for feed in self._shadow(name, building)]
        async with self._parts.relay.exchanging(away):
            begun = await self._parts.generations.begin(name)
        self._parts.on_change()
        return begun

    async def _catch_up(
        self,
        name: str,
        generation: int,
        shadow: list[Feed],
        on_progress: Callable[[RebuildProgress], None],
    ) -> None:
        """Until the generation lacks no more of the log than `NEAR`.

        The goal is held until it is reached: under steady writing the head itself
        never is.
        """
        goal = await self._heads(shadow)
        while True:
            await self._refuse_given_up(name, generation)
            await self._refuse_dead(name, generation)
            read = {f.source: self._parts.relay.position(f.key) for f in shadow}
            on_progress(
                RebuildProgress(
                    projection=name,
                    generation=generation,
                    read=sum(min(read[source], goal[source]) for source in goal),
                    of=sum(goal.values()),
                )
            )
            if await self._has(shadow, goal):
                heads = await self._heads(shadow)
                if await self._is_near(shadow, goal, heads):
                    return
                goal = heads
            self._parts.relay.wake()
            await self._parts.moved.wait(LOOK_S)

    async def _has(self, shadow: list[Feed], goal: dict[str, int]) -> bool:
        for feed in shadow:
            if self._parts.relay.position(feed.key) < goal[feed.source]:
                return False
            if await self._parts.queue.pending(feed.handler, feed.generation, goal[feed.source]):
                return False
        return True

    async def _is_near(
        self, shadow: list[Feed], goal: dict[str, int], heads: dict[str, int]
    ) -> bool:
        """Whether few events have come since the goal was set. Positions have gaps: count."""
        for source, head in heads.items():
            names = sorted({e for feed in shadow if feed.source == source for e in feed.events})
            more = await self._parts.sources[source].count(names, goal[source], head, NEAR + 1)
            if more > NEAR:
                return False
        return True

    async def _heads(self, shadow: list[Feed]) -> dict[str, int]:
        sources = {feed.source for feed in shadow}
        return {source: await self._parts.sources[source].head() for source in sources}

    async def _swap(self, name: str, generation: int) -> None:
        before = self._active[name]
        await self._parts.generations.swap(name, generation)
        await self._answer_from(name, generation)
        self._parts.on_change()
        if self._parts.grace_s:
            await asyncio.sleep(self._parts.grace_s)
        # Only now that queries are told of the new one: those that read the old one find it.
        try:
            await self._parts.generations.drop(name, before)
        except TenfoldError as error:
            _log.error(
                "Generation %d of %s.%s was replaced and could not be dropped. It takes up space "
                "until the next start, which drops it. %s",
                before,
                self._parts.module,
                name,
                error_text(error),
            )

    async def _answer_from(self, name: str, generation: int) -> None:
        """Let a generation that was swapped in answer here, and follow it instead of the old."""
        async with self._parts.relay.exchanging() as away:
            before = self._active[name]
            if generation <= before:
                return  # known already
            away += [_of_generation(feed, before).key for feed in self._parts.feeds[name]]
            self._active[name] = generation
            self._parts.on_swap(name, generation)
        # From here on it is an ordinary feed: no pace, no lower priority.
        self._parts.relay.follow(
            [_of_generation(feed, generation) for feed in self._parts.feeds[name]]
        )

    def _refuse_unknown(self, name: str) -> None:
        if name not in self._parts.feeds:
            raise UnknownProjectionError(
                f"Module {self._parts.module!r} has no projection {name!r}; nothing was done. It "
                f"has: {', '.join(sorted(self._parts.feeds)) or 'none'}."
            )

    async def _refuse_given_up(self, name: str, generation: int) -> None:
        """Stop where another process has begun it anew, or has swapped it in."""
        building = (await self._parts.generations.state())[name].building
        if building != generation:
            raise RebuildFailedError(
                f"The rebuild of {name!r} in module {self._parts.module!r} as generation "
                f"{generation} was given up: another one was begun or ended meanwhile. What "
                "answers still does. See `tenfold projections`, and ask again if need be."
            )

    async def _refuse_trimmed(self, name: str) -> None:
        for source in sorted({feed.source for feed in self._parts.feeds[name]}):
            floor = await self._parts.sources[source].floor()
            if floor > 0:
                raise _trimmed(self._parts.module, name, source, floor)

    async def _refuse_dead(self, name: str, generation: int) -> None:
        for feed in self._parts.feeds[name]:
            found = await self._parts.desk.entries(
                state="dead", handler=feed.handler, after=0, limit=500
            )
            for entry in found:
                if entry.generation == generation:
                    raise _failed(self._parts.module, name, entry)

    def _shadow(self, name: str, generation: int) -> list[Feed]:
        return [
            Feed(
                handler=feed.handler,
                source=feed.source,
                events=feed.events,
                generation=generation,
                start="beginning",
                priority=REBUILD_PRIORITY,
                paced=True,
            )
            for feed in self._parts.feeds[name]
        ]


def _of_generation(feed: Feed, generation: int) -> Feed:
    return Feed(
        handler=feed.handler,
        source=feed.source,
        events=feed.events,
        generation=generation,
        start=feed.start,
        priority=feed.priority,
    )


def _trimmed(module: str, name: str, source: str, floor: int) -> LogTrimmedError:
    return LogTrimmedError(
        f"The projection {name!r} of module {module!r} was not rebuilt: the log of {source!r} was "
        f"trimmed up to event {floor}, so it would lack whatever those events told. Nothing was "
        f"changed. Put back a copy of {source!r} with the whole log, or build it from what is "
        f"left: `tenfold projections rebuild {module}.{name} --partial`."
    )


def _failed(module: str, name: str, entry: EntryView) -> RebuildFailedError:
    return RebuildFailedError(
        f"The rebuild of {name!r} in module {module!r} stopped at entry {entry.id}: "
        f"{entry.handler} failed {entry.attempts} times. {entry.last_error} The generation before "
        "it still serves. Mend the handler, retry or discard the entry, and rebuild again: it "
        "goes on from there."
    )
