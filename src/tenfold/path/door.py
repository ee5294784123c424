"""The door: what a process asks of everything that comes in, beside who sends it."""

from __future__ import annotations

from collections.abc import Mapping

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import OverloadedError, TenfoldError
from tenfold.path.backlogs import Backlogs
from tenfold.path.limits import Allowance, RateLimits
from tenfold.path.shedding import WEIGHTS, Arrival, Shedder

__all__ = ["Door"]


class Door:
    """Rate limits, shedding and full queues, each only where it is asked for.

    Args:
        operations: by `module.operation`, as the contracts have them.
        shedder: None takes on whatever comes.
    """

    def __init__(
        self,
        operations: Mapping[str, OperationSpec],
        *,
        shedder: Shedder | None = None,
        rates: RateLimits | None = None,
        backlogs: Backlogs | None = None,
    ) -> None:
        self.shedder = shedder
        self.rates = rates
        self.backlogs = backlogs
        self.limited = frozenset(rates.policies) if rates is not None else frozenset()
        """The operations that have a rate limit."""
        self._weights = {
            target: WEIGHTS[spec.declaration.priority] for target, spec in operations.items()
        }

    def weight(self, target: str) -> float:
        """How much of the limit an operation may fill."""
        return self._weights[target]

    def look(
        self, target: str, principal: Principal, tenant: str, address: str | None, *, arrived: bool
    ) -> TenfoldError | None:
        """Whether a call would be turned away, asked before anything is read of its body.

        Args:
            arrived: it is counted among those present already.
        """
        if target in self.limited and self.rates is not None:
            refused = self.rates.refused_already(target, principal, tenant, address)
            if refused is not None:
                return refused
        shedder = self.shedder
        if arrived or shedder is None or shedder.calm:
            return None
        if shedder.admits(self._weights[target], tenant):
            return None
        return shedder.refusal(target)

    async def count(
        self, target: str, principal: Principal, tenant: str, address: str | None
    ) -> tuple[Allowance, ...]:
        """Count a call of one of the `limited` operations. Raises: RateLimitedError."""
        if self.rates is None:
            return ()
        return await self.rates.admit(target, principal, tenant, address)

    def full(self, module: str, target: str) -> OverloadedError | None:
        """The error for a command that would add to a full queue."""
        return None if self.backlogs is None else self.backlogs.refusal(module, target)

    def take(self, target: str, tenant: str, arrival: Arrival | None) -> Arrival | None:
        """Take a call on, or the one that has arrived; None where nobody counts.

        Raises: OverloadedError (NOT_DONE).
        """
        if self.shedder is None:
            return None
        if arrival is None:
            return self.shedder.arrive(target, self._weights[target], tenant)
        self.shedder.begin(target, arrival)
        return arrival
