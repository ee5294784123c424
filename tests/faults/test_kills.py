"""`kill -9` at every point of the path and at random; what clients were told is the judge."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.faults.campaign import RANDOM, Campaign, decide_kills
from tests.faults.victim import POINTS


@pytest.mark.slow
def test_what_was_told_survives_every_kill_and_happens_once(
    tmp_path: Path, size: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = Random(seed)
    campaign = Campaign(tmp_path, rng)
    for number, points in enumerate(decide_kills(rng, size)):
        campaign.segment(number, points)
        with capsys.disabled():
            if size == "full":
                print(f"segment {number}: {sum(campaign.kills.values())} kills", flush=True)
            if campaign.verdicts:
                break
    with capsys.disabled():
        print(f"\n{campaign.table()}\n(run it again with --seed {seed} --size {size})")
    assert not campaign.verdicts, "\n".join([f"--seed {seed}", *campaign.verdicts])
    if size == "full":
        assert sum(campaign.kills.values()) >= 100
        assert campaign.kills[RANDOM] >= 40
        assert [point for point in POINTS if campaign.kills[point] < 3] == []
