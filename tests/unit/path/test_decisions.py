"""What the path decides: values in, a decision out, nothing done."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.contract import Contract, read_contract
from tenfold.contracts.envelope import Envelope, Principal, TraceContext
from tenfold.contracts.errors import (
    CallInsideUnitOfWorkError,
    CommandFromCommandError,
    DeadlineExceededError,
    InvalidArgumentsError,
    KeyReusedError,
    NotPermittedError,
    Outcome,
    OverloadedError,
)
from tenfold.contracts.operations import Kind, command, query
from tenfold.path.admit import (
    KEY_LIFE,
    decide_admission,
    decide_replay,
    decide_who,
    fingerprint,
    reply_key,
)
from tenfold.path.batches import BatchMessage
from tenfold.path.calling import decide_call, decide_call_key
from tenfold.path.handle import deadline_error, decide_rerun_s
from tenfold.path.operations import CompiledOperation
from tenfold.ports.records import StoredReply
from tenfold.ports.unit import Message, Unit

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SOMEONE = Principal(id="p")
PERMISSIONS = st.sampled_from(["seller", "buyer", "auditor", "*"])
PRINCIPALS = st.builds(
    Principal, id=st.text(max_size=5), permissions=st.lists(PERMISSIONS).map(tuple)
)
WHO = st.sampled_from(["anyone", "internal", "seller", "buyer"])
KEYS = st.none() | st.text(min_size=1, max_size=5)


class Tills(Contract, Protocol):
    """Tills."""

    @command(who="seller")
    async def sell(self, sku: str, count: int = 1) -> str:
        """Sell."""
        ...

    @command(who="seller", key="required")
    async def pay_out(self, sku: str) -> str:
        """Pay."""
        ...

    @query(who="anyone")
    async def stock(self, sku: str) -> int:
        """Count."""
        ...


TILLS = read_contract(Tills)


class _Operation:
    """As much of a compiled operation as a decision looks at."""

    def __init__(self, name: str, who: str = "anyone") -> None:
        self.spec = TILLS.operations[name]
        self.target = f"tills.{name}"
        self.who = who


def operation(name: str = "sell", who: str = "anyone") -> CompiledOperation:
    return cast("CompiledOperation", _Operation(name, who))


class _Host:
    contract = TILLS


def message(
    kind: Kind = Kind.COMMAND,
    *,
    target: str = "tills.sell",
    key: str | None = None,
    principal: Principal = SOMEONE,
    left_s: float = 60.0,
) -> Message:
    envelope = Envelope(
        id="m-1",
        kind=kind,
        target=target,
        payload=None,
        principal=principal,
        tenant="main",
        trace=TraceContext(trace_id="1" * 32, span_id="1" * 16),
        at=NOW,
        idempotency_key=key,
    )
    made = Message(envelope, kind, "tills", time.monotonic() + left_s, None)
    made.host = _Host()
    return made


@given(WHO, PRINCIPALS, st.booleans())
def test_who_may_is_decided_by_permission_and_by_walls(
    who: str, principal: Principal, internal: bool
) -> None:
    refused = decide_who("tills.sell", who, principal, internal)
    expected = {"anyone": True, "internal": internal}.get(who, principal.may(who))
    assert (refused is None) == expected
    if refused is not None:
        assert isinstance(refused, NotPermittedError)
        assert refused.outcome is Outcome.NOT_DONE
        assert "tills.sell" in str(refused)


@given(
    st.sampled_from(["sell", "pay_out", "stock"]),
    PRINCIPALS,
    st.booleans(),
    st.floats(-1, 1),
    st.integers(0, 3),
    st.integers(1, 3),
    KEYS,
)
def test_admission_asks_who_then_time_then_load_then_key(
    name: str,
    principal: Principal,
    internal: bool,
    time_left_s: float,
    in_flight: int,
    most: int,
    key: str | None,
) -> None:
    spec = TILLS.operations[name]
    refused = decide_admission(
        f"tills.{name}",
        spec,
        principal=principal,
        internal=internal,
        time_left_s=time_left_s,
        in_flight=in_flight,
        most_in_flight=most,
        idempotency_key=key,
    )
    reasons = [
        (spec.declaration.who != "anyone" and not principal.may("seller"), NotPermittedError),
        (time_left_s <= 0, DeadlineExceededError),
        (in_flight >= most, OverloadedError),
        (name == "pay_out" and key is None, InvalidArgumentsError),
    ]
    expected = next((kind for holds, kind in reasons if holds), type(None))
    assert type(refused) is expected
    if refused is not None:
        assert refused.outcome is Outcome.NOT_DONE


def test_a_missing_key_names_the_header_and_an_overload_a_wait() -> None:
    def admitted(**changes: Any) -> Any:
        values: dict[str, Any] = {
            "principal": Principal(id="p", permissions=("*",)),
            "internal": False,
            "time_left_s": 1.0,
            "in_flight": 0,
            "most_in_flight": 1,
            "idempotency_key": None,
        }
        return decide_admission("tills.pay_out", TILLS.operations["pay_out"], **values | changes)

    assert admitted().field == "Idempotency-Key"
    assert admitted(in_flight=1).retry_after_s > 0
    assert admitted(idempotency_key="k") is None


ARGUMENTS = st.builds(
    TILLS.operations["sell"].arguments, sku=st.text(max_size=3), count=st.integers(0, 3)
)


@given(ARGUMENTS, ARGUMENTS)
def test_a_fingerprint_tells_requests_apart_and_the_same_one_never(
    one: msgspec.Struct, other: msgspec.Struct
) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert len(fingerprint(one)) == 16


def test_a_fingerprint_does_not_depend_on_the_order_of_a_mapping() -> None:
    class Tagged(msgspec.Struct):
        tags: dict[str, int]

    assert fingerprint(Tagged({"a": 1, "b": 2})) == fingerprint(Tagged({"b": 2, "a": 1}))


@given(ARGUMENTS, ARGUMENTS)
def test_a_stored_reply_answers_its_own_request_only(
    first: msgspec.Struct, second: msgspec.Struct
) -> None:
    key = reply_key("tills.sell", Principal(id="p"), "main", "k", second, NOW)
    stored = StoredReply(fingerprint=fingerprint(first), body=b"", position=0)
    refused = decide_replay(key, stored, "tills.sell")
    assert (refused is None) == (first == second)
    if refused is not None:
        assert isinstance(refused, KeyReusedError)
        assert "'k'" in str(refused)


@given(st.sets(st.tuples(st.text("ab", max_size=2), st.text("ab", max_size=2)), min_size=2))
def test_a_key_belongs_to_its_principal_and_tenant(owners: set[tuple[str, str]]) -> None:
    arguments = TILLS.operations["sell"].arguments(sku="a")
    scopes = {
        reply_key("tills.sell", Principal(id=who), tenant, "k", arguments, NOW).scope
        for who, tenant in owners
    }
    assert len(scopes) == len(owners)


def test_a_key_lives_for_a_day() -> None:
    assert timedelta(hours=24) == KEY_LIFE


@given(WHO, PRINCIPALS, st.sampled_from(list(Kind)))
def test_a_modules_call_is_decided_by_what_its_message_may(
    who: str, principal: Principal, kind: Kind
) -> None:
    refused = decide_call(operation("sell", who), message(kind, principal=principal))
    allowed = who in ("anyone", "internal") or principal.may(who)
    assert (refused is None) == allowed


def test_a_call_after_the_first_statement_is_refused_before_all_else() -> None:
    parent = message(left_s=-1)
    parent.unit = Unit("m-1", "main", parent.deadline)
    assert isinstance(decide_call(operation(), parent), DeadlineExceededError)
    parent.unit.session = object()
    refused = decide_call(operation(who="seller"), parent)
    assert isinstance(refused, CallInsideUnitOfWorkError)
    assert "tills.sell called tills.sell" in str(refused)


BACKGROUND = st.sampled_from([Kind.JOB, Kind.EVENT, Kind.SCHEDULE])


@given(BACKGROUND, st.integers(1, 6))
def test_background_work_that_runs_again_makes_the_same_keys(kind: Kind, calls: int) -> None:
    def keys() -> list[Any]:
        parent = message(kind)
        return [decide_call_key(operation(), parent, None) for _ in range(calls)]

    assert keys() == keys()
    assert len(set(keys())) == calls
    assert all(key.startswith("m-1:") for key in keys())


@given(BACKGROUND, st.text(min_size=1, max_size=5))
def test_a_key_that_the_caller_chose_is_taken(kind: Kind, wanted: str) -> None:
    assert decide_call_key(operation(), message(kind), wanted) == wanted


@given(KEYS)
def test_who_handles_a_batch_calls_no_commands(wanted: str | None) -> None:
    batch = BatchMessage(message(Kind.EVENT).envelope, Kind.EVENT, "tills", 1.0, None)
    refused = decide_call_key(operation(), batch, wanted)
    assert isinstance(refused, CommandFromCommandError)
    assert "in batches" in str(refused)


@given(KEYS, KEYS)
def test_a_command_calls_commands_only_if_it_requires_a_key_and_has_one(
    key: str | None, wanted: str | None
) -> None:
    found = decide_call_key(operation(), message(target="tills.pay_out", key=key), wanted)
    if key is None:
        assert isinstance(found, CommandFromCommandError)
    else:
        assert isinstance(found, str)
        assert found == wanted or (wanted is None and found.startswith(f"{key}:"))
    keyed_but_free = decide_call_key(operation(), message(key=key), wanted)
    assert isinstance(keyed_but_free, CommandFromCommandError)
    assert 'key="required"' in str(keyed_but_free)


@given(KEYS)
def test_a_query_never_calls_a_command(wanted: str | None) -> None:
    parent = message(Kind.QUERY, target="tills.stock", key="k")
    assert isinstance(decide_call_key(operation(), parent, wanted), CommandFromCommandError)


@given(st.integers(1, 5), st.floats(0, 1, exclude_max=True))
def test_a_rerun_waits_anywhere_up_to_a_bound_that_doubles(attempt: int, chance: float) -> None:
    wait_s = decide_rerun_s(attempt, chance)
    assert 0 <= wait_s < 0.002 * 2**attempt <= 0.064
    assert decide_rerun_s(attempt + 1, chance) == pytest.approx(2 * wait_s)


@pytest.mark.parametrize(
    ("sealed", "outcome"),
    [(None, Outcome.NOT_DONE), (False, Outcome.NOT_DONE), (True, Outcome.MAYBE_DONE)],
)
def test_a_passed_deadline_tells_the_truth_about_the_commit(
    sealed: bool | None, outcome: Outcome
) -> None:
    late = message()
    if sealed is not None:
        late.unit = Unit("m-1", "main", 0.0)
        late.unit.sealed = sealed
    error = deadline_error("tills.sell", 2.5, late)
    assert error.outcome is outcome
    assert "tills.sell took longer than its 2.5 s" in str(error)
    assert DeadlineExceededError.outcome is Outcome.NOT_DONE
