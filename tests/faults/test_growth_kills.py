"""`kill -9` of a fleet's processes and of its servers, under load; clients' journals judge."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.faults.growth_campaign import GrowthCampaign
from tests.faults.growth_faults import FAULTS, decide_faults
from tests.servers import OwnPostgres, OwnValkey

pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.timeout(3600)]
_LENGTH = 26
_SOON_S = 15.0


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
