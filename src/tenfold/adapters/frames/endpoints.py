"""The processes of a service as one caller has them: where they are, and the connections there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Final, Protocol

from tenfold.adapters.frames.balancing import Standing
from tenfold.adapters.frames.link import FrameLink
from tenfold.adapters.frames.records import OperationRecord
from tenfold.ports.frames import PeerUnavailableError

__all__ = ["Dial", "Directory", "Endpoint", "Fixed", "Site"]

_FIRST_WAIT_S: Final = 0.02
_LONGEST_WAIT_S: Final = 1.0
_LIFE_S: Final = 60.0
"""How long a connection is used, at the most: then a process that has come may be met."""
Dial = Callable[[], Awaitable[FrameLink]]


class Directory(Protocol):
    """Knows where the processes of a service can be reached."""

    links: int
    """Connections that are held to each place."""
    again_s: float | None
    """After how long it is worth another look; None where nothing changes."""

    async def look(self) -> Mapping[str, Dial]:
        """The places as of now, each with what connects there. Raises: TenfoldError, OSError."""
        ...


class Fixed:
    """Places that do not change, such as the one socket that a service's processes share."""

    def __init__(self, places: Mapping[str, Dial], *, links: int) -> None:
        self.links = links
        self.again_s: float | None = None
        self._places = places

    async def look(self) -> Mapping[str, Dial]:
        """See `Directory`."""
        return self._places


class Endpoint:
    """One process: the connections that lead to it, and how it does."""

    def __init__(
        self, operations: Mapping[str, Sequence[str]], standing: Standing | None = None
    ) -> None:
        """Nothing leads there yet.

        Args:
            operations: what it has said that it can be asked for, with the names of arguments.
            standing: of one that was known before.
        """
        self.standing = standing or Standing()
        self.links: list[FrameLink] = []
        self._operations = operations
        self._takes: dict[str, bool] = {}

    def takes(self, record: OperationRecord) -> bool:
        """Whether it can be asked for this, with all arguments that we have.

        In a roll-out some processes of a service may be older than who calls, or newer. One that
        has said nothing is taken to be as we are.
        """
        known = self._takes.get(record.target)
        if known is None:
            theirs = self._operations.get(record.target)
            known = theirs is not None and record.arguments <= set(theirs)
            known = self._takes[record.target] = known or not self._operations
        return known

    def link(self) -> FrameLink:
        """The least busy of its connections. Raises: PeerUnavailableError where it has left."""
        links = self.links
        if len(links) == 1:
            return links[0]
        if not links:
            raise PeerUnavailableError("The process has just left. Nothing was sent.")
        return min(links, key=_outstanding)


class Site:
    """One place, and the connections that lead there: as many as are wanted, made anew if lost.

    Several processes may answer at one place: whoever takes a connection is known by its hello.
    """

    def __init__(
        self,
        dial: Dial,
        links: int,
        *,
        came: Callable[[Site, FrameLink], None],
        renewed: Callable[[FrameLink], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Nothing is connected before `fill`.

        Args:
            links: how many are held.
            came: told of each connection that was made.
            renewed: told of each that another has taken the place of.
            failed: told of each that could not be.
        """
        self._dial = dial
        self._most = links
        self._came = came
        self._renewed = renewed
        self._failed = failed
        self._dialing: asyncio.Task[None] | None = None
        self._closed = False
        self._random = random.Random()
        self.links: list[FrameLink] = []
        self._old: list[FrameLink] = []
        """Those that are used until others have taken their places."""

    def fill(self) -> None:
        """Connect until there are enough."""
        if self._dialing is None and not self._closed and len(self.links) < self._most:
            self._dialing = asyncio.get_running_loop().create_task(self._keep_dialing())

    def renew(self, link: FrameLink) -> None:
        """A connection has been used long enough, once there is another in its place."""
        if link in self.links:
            self.links.remove(link)
            self._old.append(link)
            self.fill()

    def drop(self, link: FrameLink) -> None:
        """A connection is not to be used any more; another takes its place."""
        if link in self.links:
            self.links.remove(link)
            self.fill()
        elif link in self._old:
            self._old.remove(link)

    def leave(self) -> list[FrameLink]:
        """The place is none any more: connect no more. Returns: its connections."""
        self._closed = True
        if self._dialing is not None:
            self._dialing.cancel()
        links = self.links + self._old
        self.links, self._old = [], []
        return links

    async def ended(self) -> None:
        """Wait until nothing is being connected, after `leave`."""
        if self._dialing is not None:
            await asyncio.gather(self._dialing, return_exceptions=True)

    async def _keep_dialing(self) -> None:
        """Connect until there are enough; try again, later each time, where that fails."""
        wait_s = _FIRST_WAIT_S
        try:
            while len(self.links) < self._most:
                try:
                    link = await self._dial()
                except Exception as error:
                    self._failed(error)
                    await asyncio.sleep(wait_s * (0.5 + self._random.random() / 2))
                    wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
                    continue
                if not link.usable:  # it was told to go elsewhere at once
                    await asyncio.sleep(wait_s)
                    continue
                wait_s = _FIRST_WAIT_S
                life_s = _LIFE_S * (0.5 + self._random.random() / 2)
                link.retires_s = monotonic() + life_s
                self.links.append(link)
                self._came(self, link)
                while self._old and len(self.links) + len(self._old) > self._most:
                    self._renewed(self._old.pop(0))
        finally:
            self._dialing = None


def _outstanding(link: FrameLink) -> int:
    return link.outstanding
