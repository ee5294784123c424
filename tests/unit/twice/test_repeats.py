"""What is decided about the deliveries of one message."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tenfold.contracts.contract import read_contract
from tenfold.contracts.errors import KeyReusedError, OverloadedError
from tenfold.contracts.operations import Kind
from tenfold.path.repeated import RepeatingPeer
from tenfold.path.repeats import (
    Asked,
    Findings,
    NotRepeatableError,
    Run,
    decide_answers,
    decide_repeats,
)
from tenfold.ports.clock import RandomIds
from tenfold.ports.peers import Outgoing, Returned
from tests.unit.twice.bank import Bank, TooOften

PAY = read_contract(Bank).operations["pay"]
A, B = "a", "b"
Calls = Sequence[tuple[str, str]]
"""Key and account of each call."""


def run(*calls: tuple[str, str], committed: bool = False, error: Exception | None = None) -> Run:
    made = Run()
    made.committed, made.error = committed, error
    for key, account in calls:
        asked = Asked("bank.pay", key, PAY.arguments(account=account))
        asked.done = True
        made.asked.append(asked)
    return made


def about(*runs: Run, kind: Kind = Kind.JOB, duplicate: bool = True) -> list[str]:
    return [f.about for f in decide_repeats("m.h", kind, runs, duplicate=duplicate)]


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ([("1", A)], [("1", A)], []),
        ([("1", A)], [("1", B)], ["arguments bank.pay"]),
        ([("1", A), ("2", B)], [("1", B), ("2", A)], ["arguments bank.pay"] * 2),
        ([("1", A)], [("2", A)], ["key bank.pay"]),
        # Work that goes on where it was: less is left, or other things are due.
        ([("1", A), ("2", B)], [("2", B)], []),
        ([("1", A)], [("2", B)], []),
        ([("1", A)], [("1", A), ("2", A)], []),
        ([("1", A), ("2", A)], [("2", A), ("1", A)], []),
        # One key for two requests is refused at once, repeated or not.
        ([("1", A), ("1", B)], [("1", A), ("1", B)], []),
    ],
)
def test_calls_of_a_handler_that_is_run_again(
    first: Calls, second: Calls, found: list[str]
) -> None:
    assert about(run(*first), run(*second), duplicate=False) == found


def test_a_duplicate_is_to_have_no_effect() -> None:
    called = run(("1", A))
    assert about(called, run(("1", A)), run()) == []
    assert about(called, run(), run(("2", B))) == ["duplicate calls bank.pay"]
    assert about(called, run(), run(committed=True)) == ["duplicate commits"]
    assert about(called, run(), run(("2", B)), kind=Kind.SCHEDULE) == []
    assert about(run(), run(), run(("2", B), committed=True)) == []
    assert about(called, run(), run(("2", B)), duplicate=False) == []


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (LookupError("nothing to do"), True),
        (TooOften(), True),
        (KeyReusedError("another request"), True),
        (OverloadedError("full"), False),
        (ConnectionResetError("gone"), False),
        (TimeoutError("late"), False),
    ],
)
def test_a_duplicate_is_not_to_fail_for_reasons_of_its_own(error: Exception, told: bool) -> None:
    ended = run(committed=True)
    assert about(ended, ended, run(error=error)) == ["duplicate fails"] * told


@pytest.mark.parametrize("kind", [Kind.JOB, Kind.SCHEDULE])
def test_of_duplicates_a_schedules_is_held_only_to_not_failing(kind: Kind) -> None:
    job = kind is Kind.JOB
    called, ended = run(("1", A)), run(committed=True)
    assert about(called, called, run(committed=True), kind=kind) == ["duplicate commits"] * job
    more = run(("2", B))
    assert about(ended, ended, more, kind=kind) == ["duplicate calls bank.pay"] * job
    failed = run(error=LookupError("gone"))
    assert about(ended, ended, failed, kind=kind) == ["duplicate fails"]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (1, Returned(value=1, replayed=True), None),
        (math.nan, Returned(value=math.nan, replayed=True), None),
        (1, Returned(value=1), "it was done again"),
        (1, Returned(value=2, replayed=True), "it answered otherwise: 1, then 2"),
        (1, TooOften(), "it failed with TooOften"),
        (1, LookupError("It is gone."), "it failed with LookupError: It is gone. Its"),
        (1, OverloadedError("full"), None),
    ],
)
def test_a_command_answers_twice_alike(
    first: Any, second: Returned | Exception, said: str | None
) -> None:
    outgoing = Outgoing(operation=PAY, module="bank", arguments=PAY.arguments(account=A), key="k")
    found = [str(f) for f in decide_answers(outgoing, Returned(value=first), second)]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


class Forgetful:
    """A peer that does each delivery anew. Implements `Peer`."""

    def __init__(self) -> None:
        self.done = 0

    async def call(self, outgoing: Outgoing) -> Returned:
        self.done += 1
        return Returned(value=self.done)


@pytest.mark.anyio
async def test_an_operation_that_is_done_again_under_its_key_is_named() -> None:
    findings = Findings()
    peer = RepeatingPeer(Forgetful(), {}, findings, RandomIds())
    outgoing = Outgoing(operation=PAY, module="bank", arguments=PAY.arguments(account=A), key="k")
    assert (await peer.call(outgoing)).value == 2
    error = findings.error()
    assert error is not None
    assert "1. bank.pay (command) is not safe to repeat: delivered again under its" in str(error)


class Patient:
    """A peer that stores its reply, and waits if it is asked to. Implements `Peer`."""

    def __init__(self) -> None:
        self.waits: list[float | None] = []

    async def call(self, outgoing: Outgoing) -> Returned:
        self.waits.append(outgoing.wait_s)
        stored = len(self.waits) > 2  # the first delivery is thrown away
        return Returned(value=1, replayed=stored, settled=outgoing.wait_s is not None)


@pytest.mark.anyio
async def test_who_waits_for_the_outcome_waits_once_and_is_not_told_of_a_replay() -> None:
    findings, patient = Findings(), Patient()
    peer = RepeatingPeer(patient, {}, findings, RandomIds())
    outgoing = Outgoing(operation=PAY, module="bank", arguments=PAY.arguments(account=A), key="k")
    returned = await peer.call(msgspec.structs.replace(outgoing, wait_s=5.0))
    assert patient.waits == [None, None, None, 5.0]
    assert (returned.settled, returned.replayed) == (True, False)
    assert findings.error() is None


def test_each_thing_is_told_once_and_all_of_them_in_the_end() -> None:
    findings = Findings()
    assert findings.error() is None
    for _ in range(2):
        runs = [run(("1", A)), run(("1", B))]
        findings.add(decide_repeats("m.two", Kind.JOB, runs, duplicate=False))
        findings.add(decide_repeats("m.one", Kind.EVENT, runs, duplicate=False))
    error = findings.error()
    assert isinstance(error, NotRepeatableError)
    assert [finding.target for finding in error.findings] == ["m.one", "m.two"]
    assert str(error).startswith("2 things are not safe to repeat.")
    assert "1. m.one (event) is not safe to repeat: run again, it called bank.pay" in str(error)
    assert "`account` 'a', then 'b'" in str(error)
