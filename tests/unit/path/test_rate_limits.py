"""Rate limits: what is granted, who is counted together, and what leases may get wrong."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.adapters.memory.limits import MemoryCounter
from tenfold.contracts.contract import Contract, read_contract
from tenfold.contracts.envelope import ANONYMOUS, Principal
from tenfold.contracts.errors import ContractError, Outcome, RateLimitedError, UserMistakeError
from tenfold.contracts.operations import command, query
from tenfold.path.limits import (
    LEASE_SHARE,
    Circuit,
    LimitSettings,
    Policy,
    RateLimits,
    address_key,
    compile_policies,
    decide_key,
    decide_lease,
    share_of,
)
from tenfold.ports.clock import RandomIds
from tenfold.ports.limits import CounterUnavailableError, Grant, Rate, decide_grant, parse_rate
from tenfold.testing.clock import HeldClock

pytestmark = pytest.mark.anyio
ANN, BOB = Principal(id="ann"), Principal(id="bob")


class Desk(Contract, Protocol):
    @command("POST /v1/letters", who="anyone", rate="2/minute")
    async def send(self) -> None: ...

    @query("GET /v1/letters", who="anyone")
    async def letters(self) -> None: ...


OPERATIONS = {f"desk.{name}": spec for name, spec in read_contract(Desk).operations.items()}


class Counted:
    """A shared counter that tells how often it was asked, and can be away."""

    def __init__(self, clock: HeldClock) -> None:
        self._counter = MemoryCounter(clock)
        self.asked = 0
        self.away = False

    async def take(self, key: str, rate: Rate, wanted: int) -> Grant:
        self.asked += 1
        if self.away:
            raise CounterUnavailableError("away")
        return await self._counter.take(key, rate, wanted)


class Fleet:
    """Some processes on one counter."""

    def __init__(self, limits: dict[str, LimitSettings], processes: int = 1) -> None:
        self.clock = HeldClock()
        self.shared = Counted(self.clock)
        policies = compile_policies(limits, OPERATIONS)
        self.processes = [
            RateLimits(
                policies,
                shared=self.shared,
                fallback=MemoryCounter(self.clock),
                processes=processes,
                clock=self.clock,
                ids=RandomIds(1),
            )
            for _ in range(processes)
        ]

    async def call(
        self, at: int = 0, who: Principal = ANN, target: str = "desk.letters", **more: Any
    ) -> RateLimitedError | None:
        try:
            await self.processes[at].admit(target, who, "main", more.get("address"))
        except RateLimitedError as error:
            return error
        return None


def letters(rate: str, **more: Any) -> dict[str, LimitSettings]:
    return {"letters": LimitSettings(rate=rate, operations=("desk.letters",), **more)}


@given(
    limit=st.integers(1, 1000),
    previous=st.integers(0, 1000),
    current=st.integers(0, 1000),
    into=st.floats(0, 1, exclude_max=True),
    wanted=st.integers(0, 1000),
)
def test_a_grant_never_exceeds_the_limit_nor_what_was_wanted(
    limit: int, previous: int, current: int, into: float, wanted: int
) -> None:
    rate = Rate(limit, 60)
    previous, current = min(previous, limit), min(current, limit)
    grant = decide_grant(rate, previous, current, into * 60, wanted)
    assert 0 <= grant.granted <= wanted
    assert current + grant.granted <= limit
    assert grant.left >= 0
    assert (grant.retry_s > 0) <= (grant.left == 0)
    if grant.left == 0:
        # When it was said to come, and with the next window begun where that is later, it is there.
        at_s = into * 60 + grant.retry_s + 1e-6
        held = (previous, current + grant.granted)
        if at_s >= 60:
            held, at_s = (held[1], 0), at_s - 60
        if at_s < 60:
            assert decide_grant(rate, *held, at_s, 1).granted == 1


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, 60)),
        ("5/10 seconds", Rate(5, 10)),
        ("1/day", Rate(1, 86_400)),
        ("0/minute", None),
        ("ten/minute", None),
        ("10/fortnight", None),
    ],
)
def test_a_rate_reads_as_it_is_spoken(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == rate


def test_an_address_of_ipv6_counts_by_its_network() -> None:
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") == "2001:db8::/64"
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    assert address_key("::ffff:10.0.0.1") == address_key("10.0.0.1") == "10.0.0.1"
    assert address_key("nonsense") == address_key(None) == "unknown"


@given(a=st.text(max_size=8), b=st.text(max_size=8), c=st.text(max_size=8), d=st.text(max_size=8))
def test_no_two_callers_share_a_key(a: str, b: str, c: str, d: str) -> None:
    policy = Policy("p", Rate(1, 1), ("tenant", "principal"))
    keys = [decide_key(policy, "t", Principal(id=i), t, None) for i, t in ((a, b), (c, d))]
    if "anonymous" not in (a, c):
        assert (keys[0] == keys[1]) == ((a, b) == (c, d))


def test_who_is_not_known_is_told_by_address() -> None:
    policy = Policy("p", Rate(1, 1), ("principal",))
    keys = {decide_key(policy, "t", ANONYMOUS, "main", a) for a in ("10.0.0.1", "10.0.0.2")}
    assert len(keys) == 2


async def test_a_small_limit_is_exact_over_processes() -> None:
    fleet = Fleet(letters("5/minute"), processes=4)
    answers = [await fleet.call(at % 4) for at in range(12)]
    assert [answer is None for answer in answers] == [True] * 5 + [False] * 7
    refused = answers[-1]
    assert refused is not None
    assert refused.outcome is Outcome.NOT_DONE
    assert refused.retry_after_s > 0
    assert (refused.policy, refused.limit, refused.window_s) == ("letters", 5, 60)


async def test_a_large_limit_asks_once_for_many_and_stays_within_its_error() -> None:
    fleet = Fleet(letters("1000/minute"), processes=2)
    lease = decide_lease(Rate(1000, 60), 2)
    assert lease == 50
    done = sum([await fleet.call(at % 2) is None for at in range(1200)])
    assert done == 1000
    assert fleet.shared.asked <= 1000 / lease + 2
    # What lies in leases when a window ends is lost, or used in the next: a tenth at most.
    fleet.clock.jump(60)
    done = sum([await fleet.call(at % 2) is None for at in range(1200)])
    assert done <= 1000 * (1 + LEASE_SHARE)


async def test_who_is_over_a_limit_costs_no_further_word_with_the_counter() -> None:
    fleet = Fleet(letters("2/minute"))
    for _ in range(3):
        await fleet.call()
    asked = fleet.shared.asked
    assert all([await fleet.call() for _ in range(50)])
    assert fleet.shared.asked == asked
    early = fleet.processes[0].refused_already("desk.letters", ANN, "main", None)
    assert isinstance(early, RateLimitedError)
    assert fleet.processes[0].refused_already("desk.letters", BOB, "main", None) is None
    fleet.clock.jump(120)
    assert await fleet.call() is None


async def test_each_counts_for_itself_while_the_counter_is_away_and_asks_again() -> None:
    fleet = Fleet(letters("10/minute"), processes=4)
    fleet.shared.away = True
    first = [await fleet.call(0) for _ in range(6)]
    assert sum(answer is None for answer in first) == share_of(Rate(10, 60), 4).limit == 3
    assert fleet.shared.asked == 1
    assert fleet.processes[0].failures == 1
    fleet.shared.away = False
    fleet.clock.jump(120)
    assert await fleet.call(0) is None
    assert fleet.shared.asked == 2


async def test_without_a_shared_counter_each_keeps_its_share() -> None:
    clock = HeldClock()
    alone = RateLimits(
        compile_policies(letters("10/minute"), OPERATIONS),
        shared=None,
        fallback=MemoryCounter(clock),
        processes=2,
        clock=clock,
        ids=RandomIds(1),
    )
    for _ in range(5):
        await alone.admit("desk.letters", ANN, "main", None)
    with pytest.raises(RateLimitedError):
        await alone.admit("desk.letters", ANN, "main", None)


async def test_policies_combine_and_each_is_counted() -> None:
    limits = {
        **letters("100/minute", per=("tenant",)),
        "each": LimitSettings(rate="2/minute", per=("principal", "operation")),
    }
    fleet = Fleet(limits)
    assert [await fleet.call(who=ANN) is None for _ in range(3)] == [True, True, False]
    assert await fleet.call(who=BOB) is None
    assert await fleet.call(who=ANN, target="desk.send") is None


async def test_a_contract_says_its_own_rate() -> None:
    fleet = Fleet({})
    assert set(fleet.processes[0].policies) == {"desk.send"}
    answers = [await fleet.call(target="desk.send") for _ in range(3)]
    assert [answer is None for answer in answers] == [True, True, False]


def test_what_is_mistyped_is_told_with_what_there_is() -> None:
    with pytest.raises(UserMistakeError, match=r"limits\.letters\.rate is '9 a day'"):
        compile_policies(letters("9 a day"), OPERATIONS)
    with pytest.raises(UserMistakeError, match=r"names 'desk\.leters'.*desk\.letters"):
        compile_policies(
            {"x": LimitSettings(rate="1/day", operations=("desk.leters",))}, OPERATIONS
        )
    chosen = compile_policies(
        {"x": LimitSettings(rate="1/day", operations=("desk.*",))}, OPERATIONS
    )
    assert set(chosen) == {"desk.send", "desk.letters"}


def test_a_contract_with_a_rate_that_is_none_is_refused() -> None:
    class Wrong(Contract, Protocol):
        @query("GET /v1/wrong", who="anyone", rate="often")
        async def wrong(self) -> None: ...

    specs = {f"w.{name}": spec for name, spec in read_contract(Wrong).operations.items()}
    with pytest.raises(ContractError, match="rate='often'"):
        compile_policies({}, specs)


def test_a_circuit_lets_one_try_again_after_a_while() -> None:
    clock = HeldClock()
    circuit = Circuit(clock, RandomIds(1))
    assert circuit.closed()
    circuit.failed()
    assert not circuit.closed()
    clock.jump(1.3)
    assert circuit.closed()
    assert not circuit.closed()  # one asks, the others wait for what it hears
    circuit.succeeded()
    assert circuit.closed()
