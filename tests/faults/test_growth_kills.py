"""`kill -9` of a fleet's processes and of its servers, under load; clients' journals judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.faults.growth_campaign import GrowthCampaign
from tests.faults.growth_faults import FAULTS, decide_faults
from tests.faults.growth_judge import decide_lives, decide_steps, decide_trail
from tests.faults.growth_load import Naive
from tests.faults.journal import Journal, Sent
from tests.servers import OwnPostgres, OwnValkey

_LENGTH = 26
_SOON_S = 15.0


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_a_fleet_told_survives_every_fault_and_happens_once(
    own_postgres: Callable[..., OwnPostgres],
    own_valkey: Callable[..., OwnValkey],
    tmp_path: Path,
    size: str,
    seed: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rng = Random(seed)
    campaign = GrowthCampaign(tmp_path, rng, web=2 if size == "small" else 4)
    names = decide_faults(rng, size)
    for number, start in enumerate(range(0, len(names), _LENGTH)):
        postgres, valkey = own_postgres(durable=True), own_valkey()
        campaign.segment(number, names[start : start + _LENGTH], postgres, valkey)
        postgres.discard()
        valkey.discard()
        with capsys.disabled():
            if size == "full":
                print(f"segment {number}: {len(campaign.struck)} faults", flush=True)
        if campaign.verdicts:
            break
    with capsys.disabled():
        print(f"\n{campaign.table()}\n(run it again with --seed {seed} --size {size})")
    assert not campaign.verdicts, "\n".join([f"--seed {seed}", *campaign.verdicts])
    assert max(struck.after_s for struck in campaign.struck) < _SOON_S
    assert {struck.name for struck in campaign.struck} == set(FAULTS)
    if size == "full":
        assert len(campaign.struck) >= 200


def told(*numbers: int) -> Journal:
    journal = Journal()
    for at, number in enumerate(numbers):
        sent = Sent("step", f"key-{at}", "/v1/registers/k1", {}, 200, {"value": number})
        journal.sent.append(sent)
    return journal


@pytest.mark.parametrize(
    ("numbers", "value", "well"),
    [((1, 2, 3), 3, True), ((1, 2, 3), 2, False), ((1, 2), 3, False), ((1, 1, 2), 2, False)],
)
def test_the_judge_misses_no_step_that_was_lost_or_done_twice(
    numbers: tuple[int, ...], value: int, well: bool
) -> None:
    assert (list(decide_steps(told(*numbers), {}, [("k1", value)])) == []) is well


@pytest.mark.parametrize(
    ("naive", "value", "well"),
    [
        (Naive([1, 3], maybe=1), 3, True),
        (Naive([1, 3], maybe=1, not_done=1), 3, True),
        (Naive([1, 3], not_done=1), 3, False),
        (Naive([1, 1], maybe=1), 2, False),
        (Naive([1, 2, 3]), 2, False),
    ],
)
def test_the_judge_finds_an_outcome_that_was_no_truth(naive: Naive, value: int, well: bool) -> None:
    assert (list(decide_steps(Journal(), {"n1": naive}, [("n1", value)])) == []) is well


@pytest.mark.parametrize(
    ("heard", "well"),
    [
        ([("k1", 1, 0), ("k1", 2, 1)], True),
        ([("k1", 2, 0), ("k1", 1, 2)], False),
        ([("k1", 1, 0)], False),
        ([("k1", 1, 0), ("k1", 2, 1), ("k1", 2, 1)], False),
    ],
)
def test_the_judge_finds_what_was_heard_twice_never_or_out_of_order(
    heard: list[tuple[str, int, int]], well: bool
) -> None:
    assert (list(decide_trail(heard, [("k1", 2)])) == []) is well


@pytest.mark.parametrize(
    ("names", "well"),
    [
        (["OrderPlaced", "OrderConfirmed"], True),
        (["OrderPlaced", "OrderRejected"], True),
        (["OrderConfirmed", "OrderPlaced"], False),
        (["OrderPlaced"], False),
        (["OrderPlaced", "OrderConfirmed", "OrderConfirmed"], False),
    ],
)
def test_the_judge_finds_an_order_that_ended_twice_or_never(names: list[str], well: bool) -> None:
    assert (list(decide_lives([("o1", f"orders.{name}") for name in names])) == []) is well
