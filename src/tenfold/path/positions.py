"""Positions: how far a caller has seen, so that it reads its own writes and time never goes back.

A token is `name.epoch.position`, joined by `,` for several: for each module's
log how far it is known, and for a database with replicas (its name begins with
`DB`) the place in its log, with the timeline as the epoch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

from tenfold.contracts.errors import StoreUnavailableError
from tenfold.path.operations import CompiledOperation
from tenfold.ports.replicas import Freshness, Replicas

__all__ = ["SEEN", "Positions", "ProjectionProgress", "Seen", "merge_tokens", "read_token"]

_log = logging.getLogger("tenfold.path")
WAIT_S = 1.0
"""Seconds that a query waits for its projections, at the most, before it says that they lag."""
_MOST_CHARACTERS = 2_000
_DATABASE = "DB"
_PRIMARY_ONLY = 10**18 - 1
"""The place of a database whose own place could not be asked: only the primary has reached it."""


class ProjectionProgress(Protocol):
    """What is known of a projection's progress through a source's log."""

    async def reached(self, projection: str, source: str, position: int) -> bool:
        """Whether the active generation has worked every event of `source` up to `position`."""
        ...

    async def wait(self) -> None:
        """Until some entry of the queue was finished."""
        ...


class Seen:
    """What somebody has seen so far who makes several calls, such as a mounted application."""

    __slots__ = ("token",)

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def add(self, token: str | None) -> None:
        """Note what a reply has shown."""
        self.token = merge_tokens(self.token, token)


SEEN: ContextVar[Seen | None] = ContextVar("tenfold_seen", default=None)
"""What the calls from outside any message in this context share."""


def read_token(token: str) -> dict[str, tuple[str, int]]:
    """The parts of a token: epoch and position by name. What is malformed is left out."""
    parts: dict[str, tuple[str, int]] = {}
    for part in token[:_MOST_CHARACTERS].split(","):
        pieces = part.strip().split(".")
        if len(pieces) != 3:
            continue
        name, epoch, position = pieces
        # "²" is a digit too, and no number.
        if position.isascii() and position.isdigit() and len(position) < 19:
            parts[name] = (epoch, int(position))
    return parts


def merge_tokens(one: str | None, other: str | None) -> str | None:
    """The token of someone who has seen both. Of two epochs the second's is the present one."""
    if one is None or other is None or one == other:
        return other if one is None else one
    parts = read_token(one)
    for name, (epoch, position) in read_token(other).items():
        known = parts.get(name)
        if known is not None and known[0] == epoch:
            position = max(position, known[1])
        parts[name] = (epoch, position)
    return ",".join(f"{name}.{epoch}.{position}" for name, (epoch, position) in parts.items())


class Positions:
    """Makes and reads tokens. `replicas` is None where every read goes to one server."""

    def __init__(
        self,
        epochs: Mapping[str, str],
        progress: Mapping[str, ProjectionProgress],
        replicas: Replicas | None = None,
    ) -> None:
        self._epochs = epochs
        self._progress = progress
        self._replicas = replicas

    @property
    def has_replicas(self) -> bool:
        """Whether reads may be answered by another server than the primary."""
        return self._replicas is not None

    def token(self, module: str, position: int) -> str | None:
        """The token for one module's log; None before its first event."""
        return f"{module}.{self._epochs[module]}.{position}" if position else None

    async def after_commit(self, module: str, position: int, before: str | None) -> str | None:
        """The token of a command's reply, for a caller who had seen `before`."""
        token = self.token(module, position)
        if self._replicas is not None:
            try:
                place = await self._replicas.written()
            except StoreUnavailableError as error:
                # The command is committed, whatever this says.
                _log.warning("How far the database's log has come could not be asked. %s", error)
                place = _PRIMARY_ONLY
            token = merge_tokens(token, self._place(self._replicas, place))
            before = _unpinned(before)
        return merge_tokens(before, token)

    async def freshness(self, token: str | None) -> Freshness | None:
        """How new the reads of a caller with this token must be; None where all are.

        Of a caller without one nobody knows what it has seen: it may have written
        a moment ago. So it is to see all that is committed now; where the primary
        cannot be asked, whatever a replica has.
        """
        if self._replicas is None:
            return None
        part = None if token is None else read_token(token).get(_DATABASE + self._replicas.server)
        if part is None:
            try:
                return Freshness(await self._replicas.written())
            except StoreUnavailableError:
                return Freshness(0)
        timeline, place = part
        known = timeline == str(self._replicas.timeline) and place < _PRIMARY_ONLY
        return Freshness(place if known else None)

    async def after_read(self, token: str | None, freshness: Freshness | None) -> str | None:
        """The token of a query's reply, for a caller who came with `token`."""
        if freshness is None or self._replicas is None or not freshness.touched:
            return token
        try:
            place = await self._replicas.seen(freshness)
        except StoreUnavailableError as error:
            # The answer is there, whatever this says.
            _log.warning("How new an answer was could not be asked. %s", error)
            place = _PRIMARY_ONLY
        if freshness.needed is None:
            token = _unpinned(token)  # only the primary was asked, which has said its place
        return merge_tokens(token, self._place(self._replicas, place))

    async def reached(self, operation: CompiledOperation, token: str) -> bool:
        """Wait until the projections that a query reads have reached a token, within a bound.

        A token that is malformed, of another epoch, or of a module that the
        projections do not follow asks for nothing.
        """
        progress = self._progress.get(operation.module.name)
        projections = operation.spec.declaration.projections
        if progress is None or not projections:
            return True
        wanted = {
            name: position
            for name, (epoch, position) in read_token(token).items()
            if self._epochs.get(name) == epoch
        }
        try:
            async with asyncio.timeout(WAIT_S):
                for projection in projections:
                    for source, position in wanted.items():
                        while not await progress.reached(projection, source, position):
                            await progress.wait()
        except TimeoutError:
            return False
        except StoreUnavailableError:
            return False  # a replica may answer all the same, and the reply says that it may lag
        return True

    def _place(self, replicas: Replicas, place: int) -> str:
        return f"{_DATABASE}{replicas.server}.{replicas.timeline}.{place}"


def _unpinned(token: str | None) -> str | None:
    """A token without the place that only the primary has: a real one takes its place."""
    if token is None:
        return None
    kept = [
        f"{name}.{epoch}.{position}"
        for name, (epoch, position) in read_token(token).items()
        if not name.startswith(_DATABASE) or position < _PRIMARY_ONLY
    ]
    return ",".join(kept) or None
