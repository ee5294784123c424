"""Rate limits: policies, whom they count, and what is asked of the shared counter.

    call ──> operation has policies? ──> lease left? ──> admitted
                 │ no: nothing              │ no: one round trip for a new lease
                                            └─ none granted: 429, remembered until more comes

A lease is a share of the limit, taken at once and used up here. Up to
`LEASE_SHARE` of a limit may lie in the leases of all processes together: by so
much, at most, a window may let through too many (leases taken in the one before)
or too few (leases not used). A limit too small for that is counted one by one, exactly.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import ANONYMOUS, Principal
from tenfold.contracts.errors import ContractError, RateLimitedError, UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.limits import CounterUnavailableError, Grant, Rate, SharedCounter, parse_rate

__all__ = [
    "LEASE_SHARE",
    "Allowance",
    "Circuit",
    "LimitSettings",
    "Policy",
    "RateLimits",
    "address_key",
    "compile_policies",
    "decide_key",
    "decide_lease",
    "share_of",
]

By = Literal["principal", "tenant", "operation", "address"]

LEASE_SHARE = 0.1
"""How much of a limit the leases of all processes may hold together."""
_LEASE_LIFE = 0.1
"""For how much of its window a lease is good."""
_MOST_KEYS = 20_000
_RETRY_S = 1.0


class LimitSettings(Struct):
    """One rate limit: `[topologies.X.limits.NAME]`.

    `rate` is `"100/minute"` or `"5/10 seconds"`. `per` says what is counted
    apart; a limit per principal tells those who are not known by their address.
    `operations` are `module.operation`, or `module.*`; all of them where it is empty.
    """

    rate: str
    per: tuple[By, ...] = ("principal",)
    operations: tuple[str, ...] = ()


class Policy(msgspec.Struct, frozen=True):
    """A rate limit as the path counts it. `name` goes into headers and keys."""

    name: str
    rate: Rate
    per: tuple[By, ...]


class Allowance(msgspec.Struct, frozen=True):
    """Where one caller stands with a policy: how many are left, for how many seconds."""

    policy: Policy
    left: int
    reset_s: float


class _Lease:
    __slots__ = ("left", "known_left", "until_s", "retry_at_s")

    def __init__(self) -> None:
        self.left = 0
        self.known_left = 0
        self.until_s = 0.0
        self.retry_at_s = 0.0


def compile_policies(
    limits: Mapping[str, LimitSettings], operations: Mapping[str, OperationSpec]
) -> dict[str, tuple[Policy, ...]]:
    """The policies of each operation that has any, by `module.operation`.

    Raises: UserMistakeError for a limit of the topology that reads wrong or names what
        there is not; ContractError for a contract's.
    """
    found: dict[str, list[Policy]] = {}
    for target, spec in operations.items():
        text = spec.declaration.rate
        if text is not None:
            found[target] = [Policy(target, _declared_rate(spec, text), ("tenant", "principal"))]
    for name, settings in limits.items():
        rate = parse_rate(settings.rate)
        if rate is None:
            raise UserMistakeError(
                f"limits.{name}.rate is {settings.rate!r}, which is not a rate. Write "
                '"100/minute" or "5/10 seconds": a number, a stroke, and second, minute, hour '
                "or day."
            )
        policy = Policy(name, rate, settings.per)
        for target in _chosen(name, settings.operations, operations):
            found.setdefault(target, []).append(policy)
    return {target: tuple(policies) for target, policies in found.items()}


def _declared_rate(spec: OperationSpec, text: str) -> Rate:
    rate = parse_rate(text)
    if rate is None:
        raise ContractError(
            f"{spec.contract}.{spec.name} says rate={text!r}, which is not a rate. Write "
            '"100/minute" or "5/10 seconds".'
        )
    return rate


def _chosen(
    name: str, wanted: Sequence[str], operations: Mapping[str, OperationSpec]
) -> Sequence[str]:
    if not wanted:
        return list(operations)
    chosen: list[str] = []
    for pattern in wanted:
        if pattern.endswith(".*"):
            matches = [target for target in operations if target.startswith(pattern[:-1])]
        else:
            matches = [pattern] if pattern in operations else []
        if not matches:
            raise UserMistakeError(
                f"limits.{name}.operations names {pattern!r}, which the product does not have. "
                f"It has {', '.join(sorted(operations))}."
            )
        chosen += matches
    return chosen


def address_key(address: str | None) -> str:
    """What of an address is counted: all of IPv4, the first 64 bits of IPv6.

    A household or a server has a /64 to itself, and may change the rest at will.
    """
    if address is None:
        return "unknown"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def decide_key(
    policy: Policy, target: str, principal: Principal, tenant: str, address: str | None
) -> str:
    """Under what one call is counted. Parts are quoted, so that none can be taken for another."""
    parts = [policy.name]
    for by in policy.per:
        if by == "operation":
            parts.append(target)
        elif by == "tenant":
            parts.append(f"t={tenant!r}")
        elif by == "address" or principal.id == ANONYMOUS.id:
            parts.append(f"a={address_key(address)}")
        else:
            parts.append(f"p={principal.id!r}")
    return "|".join(parts)


def decide_lease(rate: Rate, processes: int) -> int:
    """How many one process takes at once."""
    return max(1, int(rate.limit * LEASE_SHARE / max(1, processes)))


def share_of(rate: Rate, processes: int) -> Rate:
    """What one process may let through by itself while the shared counter is away."""
    return Rate(math.ceil(rate.limit / max(1, processes)), rate.window_s)


class Circuit:
    """Asks nobody who has just failed: after a failure, closed again after about a second."""

    __slots__ = ("_again_s", "_clock", "_ids", "_retry_s", "opened")

    def __init__(self, clock: Clock, ids: Ids, retry_s: float = _RETRY_S) -> None:
        self._clock = clock
        self._ids = ids
        self._retry_s = retry_s
        self._again_s = -math.inf
        self.opened = 0

    def closed(self) -> bool:
        """Whether to ask. The first to ask after a failure asks alone for as long again."""
        now_s = self._clock.monotonic()
        if self._again_s == -math.inf:
            return True
        if now_s < self._again_s:
            return False
        self._again_s = now_s + self._retry_s
        return True

    def succeeded(self) -> None:
        """It answered."""
        self._again_s = -math.inf

    def failed(self) -> None:
        """It did not. Jitter keeps processes from asking together."""
        self.opened += 1
        self._again_s = self._clock.monotonic() + self._retry_s * (0.75 + self._ids.uniform() / 2)


class RateLimits:
    """The rate limits of one process. An operation without a policy costs nothing here."""

    def __init__(
        self,
        policies: Mapping[str, tuple[Policy, ...]],
        *,
        shared: SharedCounter | None,
        fallback: SharedCounter,
        processes: int,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """Args:
        shared: counts for all processes; None where there is none.
        fallback: counts this one's share while that does not answer.
        processes: how many share the limits.
        """
        self.policies = policies
        self._shared = shared
        self._fallback = fallback
        self._processes = processes
        self._clock = clock
        self._circuit = Circuit(clock, ids)
        self._leases: OrderedDict[str, _Lease] = OrderedDict()

    @property
    def failures(self) -> int:
        """How often the shared counter did not answer."""
        return self._circuit.opened

    def refused_already(
        self, target: str, principal: Principal, tenant: str, address: str | None
    ) -> RateLimitedError | None:
        """The error for a call that is known to be over a limit, before anything is read of it."""
        now_s = self._clock.monotonic()
        for policy in self.policies.get(target, ()):
            key = decide_key(policy, target, principal, tenant, address)
            lease = self._leases.get(key)
            if lease is not None and not lease.left and now_s < lease.retry_at_s:
                return _refused(target, Allowance(policy, 0, lease.retry_at_s - now_s))
        return None

    async def admit(
        self, target: str, principal: Principal, tenant: str, address: str | None
    ) -> tuple[Allowance, ...]:
        """Count one call of an operation that has policies.

        Returns: where the caller stands with each.
        Raises: RateLimitedError (NOT_DONE) with the first that is used up. What the
            policies before it counted stays counted.
        """
        found: list[Allowance] = []
        for policy in self.policies[target]:
            key = decide_key(policy, target, principal, tenant, address)
            counted = await self._count(policy, key)
            if not isinstance(counted, Allowance):
                raise _refused(target, Allowance(policy, 0, counted))
            found.append(counted)
        return tuple(found)

    async def _count(self, policy: Policy, key: str) -> Allowance | float:
        """Where the caller stands, or in how many seconds one more is given."""
        now_s = self._clock.monotonic()
        lease = self._leases.get(key)
        if lease is None:
            lease = self._begin(key)
        else:
            self._leases.move_to_end(key)
            if now_s >= lease.until_s:
                lease.left = 0
        if not lease.left:
            if now_s < lease.retry_at_s:
                return lease.retry_at_s - now_s
            grant = await self._take(policy.rate, key)
            now_s = self._clock.monotonic()
            # Others may have waited beside this one: what each of them took is added up.
            lease.left += grant.granted
            lease.known_left = grant.left
            lease.until_s = now_s + policy.rate.window_s * _LEASE_LIFE
            lease.retry_at_s = now_s + grant.retry_s
            if not lease.left:
                return grant.retry_s
        lease.left -= 1
        return Allowance(policy, lease.known_left + lease.left, float(policy.rate.window_s))

    async def _take(self, rate: Rate, key: str) -> Grant:
        if self._shared is not None and self._circuit.closed():
            try:
                grant = await self._shared.take(key, rate, decide_lease(rate, self._processes))
            except CounterUnavailableError:
                self._circuit.failed()
            else:
                self._circuit.succeeded()
                return grant
        return await self._fallback.take(key, share_of(rate, self._processes), 1)

    def _begin(self, key: str) -> _Lease:
        while len(self._leases) >= _MOST_KEYS:
            self._leases.popitem(last=False)
        lease = self._leases[key] = _Lease()
        return lease


def _refused(target: str, allowance: Allowance) -> RateLimitedError:
    policy = allowance.policy
    return RateLimitedError(
        f"The limit {policy.name!r} of {policy.rate.limit} in {policy.rate.window_s} seconds is "
        f"used up. {target} was not begun. Send it again in {math.ceil(allowance.reset_s)} s.",
        retry_after_s=allowance.reset_s,
        policy=policy.name,
        limit=policy.rate.limit,
        window_s=policy.rate.window_s,
    )
