"""Splitting: calls of a module that is on its way out of this process, or back into it.

The module is hosted here and by a service, on the same data, so that either may answer any
call. A share of the calls goes to the service. What fails there is done here, as far as
that is safe, so that a service which does not work is noticed by nobody who calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic

import msgspec

from tenfold.contracts.errors import (
    KeyReusedError,
    NotPermittedError,
    Outcome,
    RateLimitedError,
    TenfoldError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Struct
from tenfold.path.entry import Entry
from tenfold.path.forwarding import incoming_of, returned_of
from tenfold.ports.peers import Outgoing, Peer, Returned

__all__ = ["SplitCounts", "SplitPeer"]

_OF_THE_CALLER = (KeyReusedError, NotPermittedError, RateLimitedError)
"""Errors that tell of the one who calls, and not of where it is answered."""


class SplitCounts(Struct):
    """How many calls were answered at which side since the start, and how many failed there.

    Refusals, and what is wrong with the caller, are no faults. A call that failed at the
    service and was done here counts at both sides.
    """

    service: int = 0
    service_faults: int = 0
    here: int = 0
    here_faults: int = 0

    def __add__(self, other: SplitCounts) -> SplitCounts:
        return SplitCounts(
            service=self.service + other.service,
            service_faults=self.service_faults + other.service_faults,
            here=self.here + other.here,
            here_faults=self.here_faults + other.here_faults,
        )

    def __sub__(self, other: SplitCounts) -> SplitCounts:
        return SplitCounts(
            service=self.service - other.service,
            service_faults=self.service_faults - other.service_faults,
            here=self.here - other.here,
            here_faults=self.here_faults - other.here_faults,
        )


class SplitPeer:
    """Who answers for a module that is hosted here and by a service. Implements `Peer`."""

    def __init__(
        self, service: Peer, share: float, *, chance: Callable[[], float] = random.random
    ) -> None:
        """Nothing is called before `open`.

        Args:
            share: of the calls go to the service, from 0 to 1.
            chance: from 0 to less than 1.
        """
        self.service = service
        self.share = share
        self.counts = SplitCounts()
        self._chance = chance
        self._here: Entry | None = None

    def open(self, here: Entry) -> None:
        """Take the way to the module in this process."""
        self._here = here

    async def call(self, outgoing: Outgoing) -> Returned:
        """Carry one call, at the service or here. See `Peer.call`.

        What is sent to the service has half of its time there. What fails then is done here in
        the rest of it: a query, a command of which nothing was done, or one that has a key,
        since both sides remember what was done under it at the same place.
        """
        if self._chance() >= self.share:
            return await self._answer(outgoing)
        began = monotonic()
        given_s = outgoing.timeout_s or outgoing.operation.declaration.timeout_s
        tried = msgspec.structs.replace(outgoing, timeout_s=given_s / 2)
        try:
            returned = await self.service.call(tried)
        except TenfoldError as error:
            fault = not isinstance(error, _OF_THE_CALLER)
            self._count(SplitCounts(service=1, service_faults=int(fault)))
            left_s = given_s - (monotonic() - began)
            if not fault or left_s <= 0 or not _may_repeat(outgoing, error):
                raise
            return await self._answer(msgspec.structs.replace(outgoing, timeout_s=left_s))
        except Exception:
            self._count(SplitCounts(service=1))  # a refusal, which is an answer
            raise
        self._count(SplitCounts(service=1))
        return returned

    async def _answer(self, outgoing: Outgoing) -> Returned:
        assert self._here is not None, "it is opened before anything is called"
        try:
            reply = await self._here.call(incoming_of(outgoing))
        except TenfoldError as error:
            fault = not isinstance(error, _OF_THE_CALLER)
            self._count(SplitCounts(here=1, here_faults=int(fault)))
            raise
        except Exception:
            self._count(SplitCounts(here=1))
            raise
        self._count(SplitCounts(here=1))
        return returned_of(reply)

    def _count(self, more: SplitCounts) -> None:
        self.counts += more


def _may_repeat(outgoing: Outgoing, error: TenfoldError) -> bool:
    if outgoing.operation.kind is Kind.QUERY or outgoing.key is not None:
        return True
    return error.outcome is Outcome.NOT_DONE
