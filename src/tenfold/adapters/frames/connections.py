"""The connections that one process has to those of a service: whom it may ask, and whom it does."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from tenfold.adapters.frames.balancing import (
    Standing,
    decide_choice,
    decide_kept_until_s,
    decide_weight,
)
from tenfold.adapters.frames.endpoints import Directory, Endpoint, Site
from tenfold.adapters.frames.link import FrameLink
from tenfold.adapters.frames.records import OperationRecord
from tenfold.contracts.errors import Outcome, TenfoldError
from tenfold.ports.frames import PeerUnavailableError

__all__ = ["Connections"]

_AWAY_S: Final = 2.0
"""After how long without a connection nobody waits for one any more: it is told at once."""
_MOST_AWAITING: Final = 100
"""How many wait for a connection, at the most, lest one dead service take all room."""
_LOOK_AGAIN_S: Final = 1.0
_log = logging.getLogger("tenfold.frames")


class Connections:
    """Looks where a service is, connects there, and chooses among the processes it finds."""

    def __init__(self, name: str, directory: Directory, draw: Callable[[], float]) -> None:
        """Nothing is looked up or connected before the first choice.

        Args:
            name: of the service, for messages.
            draw: a number from 0 to 1, by chance.
        """
        self._name = name
        self._directory = directory
        self._draw = draw
        self._sites: dict[str, Site] = {}
        self._places: dict[FrameLink, tuple[Site, Endpoint]] = {}
        self._by_instance: dict[str, Endpoint] = {}
        self.endpoints: list[Endpoint] = []
        """The processes that there are connections to."""
        self._parted: dict[str, Standing] = {}
        """By instance: of those that no connection leads to any more, or not at the moment."""
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._failed_s: float | None = None
        """Since when nobody can be reached."""
        self._awaiting = 0
        self._closed = False
        self.outstanding = 0
        """Calls in progress, counted by who makes them."""

    def count(self, now_s: float) -> dict[str, int]:
        """How many processes are well, are out, and are coming back."""
        weights = [decide_weight(now_s, each.standing.out_until_s) for each in self.endpoints]
        out = sum(weight == 0.0 for weight in weights)
        well = sum(weight == 1.0 for weight in weights)
        return {"well": well, "returning": len(weights) - well - out, "out": out}

    async def close(self) -> None:
        """End all of them; what is in progress on them is cancelled at the other end."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        sites, links = list(self._sites.values()), list(self._places)
        for site in sites:
            site.leave()
        for link in links:
            link.on_leaving = None
            link.close()
        self._sites.clear()
        self._places.clear()
        self.endpoints.clear()
        self._by_instance.clear()
        self._parted.clear()
        await asyncio.gather(*(site.ended() for site in sites))
        await asyncio.gather(*(link.ended.wait() for link in links))

    def choose(
        self, now_s: float, record: OperationRecord, last: Endpoint | None = None
    ) -> Endpoint | None:
        """Whom to ask, another than the last one if there is; None where there is nobody.

        Args:
            record: of the operation that is asked for: who does not have it is asked only where
                nobody has, and refuses it.
        """
        if self._looking is None:
            self._look()
        if not self.endpoints:
            return None
        endpoint, other = self._draw_two(self.endpoints)
        if endpoint is not other:
            for each in (endpoint, other):
                if not each.takes(record) or _not_now(each, last, now_s):
                    endpoint, other = self._draw_two(self._askable(record, last, now_s))
                    break
            load = self.outstanding / len(self.endpoints)
            one, two = endpoint.standing, other.standing
            if decide_choice(one, two, now_s, load, self._draw()) is two:
                endpoint = other
        link = endpoint.link()
        if not link.usable:  # its process was lost in this turn of the loop, and we are told next
            self._forget(link)
            return self.choose(now_s, record, last)
        if link.retires_s < now_s:  # it is used until another has taken its place
            link.retires_s = math.inf
            self._places[link][0].renew(link)
        return endpoint

    def _draw_two(self, among: Sequence[Endpoint]) -> tuple[Endpoint, Endpoint]:
        """Two of them by chance; one twice where there is no other."""
        count = len(among)
        if count == 1:
            return among[0], among[0]
        at = int(self._draw() * count)
        step = 1 + int(self._draw() * (count - 1))
        return among[at], among[(at + step) % count]

    def _askable(
        self, record: OperationRecord, last: Endpoint | None, now_s: float
    ) -> Sequence[Endpoint]:
        """Those that have the operation, if there are, without those that are left alone."""
        have = [each for each in self.endpoints if each.takes(record)] or self.endpoints
        return [each for each in have if not _not_now(each, last, now_s)] or have

    async def wait(self, until_s: float, record: OperationRecord, *, lost: bool) -> Endpoint:
        """Wait for a connection. Raises: PeerUnavailableError, MAYBE_DONE after a loss."""
        while True:
            self._changed.clear()
            for site in self._sites.values():
                site.fill()
            away = self._failed_s is not None and monotonic() - self._failed_s > _AWAY_S
            if away or self._awaiting >= _MOST_AWAITING:
                raise self._unreachable(lost)
            left_s = until_s - monotonic()
            self._awaiting += 1
            try:
                async with asyncio.timeout(max(left_s - min(0.1 * left_s, 0.2), 0)):
                    await self._changed.wait()
            except TimeoutError:
                raise self._unreachable(lost) from self._failure
            finally:
                self._awaiting -= 1
            endpoint = self.choose(monotonic(), record)
            if endpoint is not None:
                return endpoint

    def _unreachable(self, lost: bool) -> PeerUnavailableError:
        why = "" if self._failure is None else f" The last try: {self._failure}"
        done = "It may be done by a process that was lost" if lost else "Nothing was done"
        return PeerUnavailableError(
            f"No process of the service {self._name!r} can be reached. {done}. Send it again "
            f"later; see whether the service runs.{why}",
            outcome=Outcome.MAYBE_DONE if lost else Outcome.NOT_DONE,
        )

    def _look(self) -> None:
        if not self._closed:
            self._looking = asyncio.get_running_loop().create_task(self._keep_looking())

    async def _keep_looking(self) -> None:
        """See where the service is, again and again where that may change."""
        while True:
            again_s = self._directory.again_s
            try:
                places = await self._directory.look()
            except Exception as error:
                # What is known stays: a directory that is away does not end what runs. Nor does
                # a mistake of it end the looking: nobody would begin it again.
                self._note_failure(error)
                await asyncio.sleep(_LOOK_AGAIN_S)
                continue
            for place in [each for each in self._sites if each not in places]:
                for link in self._sites.pop(place).leave():
                    self._retire(link)
            for place, dial in places.items():
                if place not in self._sites:
                    self._sites[place] = Site(
                        dial,
                        self._directory.links,
                        came=self._came,
                        renewed=self._retire,
                        failed=self._note_failure,
                    )
                self._sites[place].fill()
            if again_s is None:
                return
            await asyncio.sleep(again_s)

    def _came(self, site: Site, link: FrameLink) -> None:
        """A connection was made."""
        self._failure = self._failed_s = None
        instance = link.hello.instance
        endpoint = self._by_instance.get(instance) if instance else None
        if endpoint is None:
            endpoint = Endpoint(link.hello.operations, self._parted.pop(instance, None))
            self.endpoints.append(endpoint)
            if instance:
                self._by_instance[instance] = endpoint
        endpoint.links.append(link)
        self._places[link] = (site, endpoint)
        link.on_leaving = self._forget
        self._changed.set()

    def _forget(self, link: FrameLink) -> None:
        """A process is about to end, or its connection is gone, or has been used long enough."""
        found = self._places.pop(link, None)
        if found is None:
            return
        site, endpoint = found
        endpoint.links.remove(link)
        if not endpoint.links:
            self.endpoints.remove(endpoint)
            self._part(link.hello.instance, endpoint.standing)
        site.drop(link)

    def _retire(self, link: FrameLink) -> None:
        """Ask nobody over it any more; it closes when it has its answers."""
        self._forget(link)
        link.retire()

    def _part(self, instance: str, standing: Standing) -> None:
        """Remember for a while how one did that has no connection: it may come back."""
        self._by_instance.pop(instance, None)
        now_s = monotonic()
        for each in [e for e, kept in self._parted.items() if decide_kept_until_s(kept) < now_s]:
            del self._parted[each]
        if instance and decide_kept_until_s(standing) >= now_s:
            self._parted[instance] = standing

    def _note_failure(self, error: Exception) -> None:
        before, self._failure = self._failure, error
        if not isinstance(error, TenfoldError | OSError) and repr(error) != repr(before):
            what = "Looking for the service %r, or connecting, met an unexpected %s."
            _log.error(what, self._name, type(error).__name__, exc_info=error)
        if self.endpoints:
            return
        if self._failed_s is None:
            _log.warning("The service %r cannot be reached. %s", self._name, error)
            self._failed_s = monotonic()
        self._changed.set()  # whoever waits looks whether that is any use


def _not_now(endpoint: Endpoint, last: Endpoint | None, now_s: float) -> bool:
    """Whether another is asked before it: it was just asked, or is left alone."""
    return endpoint is last or endpoint.standing.is_out(now_s)
