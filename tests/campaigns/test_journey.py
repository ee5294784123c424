"""One running store goes from prototype over growth to scale under load, and no request fails.

The small size of `make journey`, on a made-up history; `--size full` takes the real one.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.journey.__main__ import SIZES
from benchmarks.journey.machines import NotThereError
from benchmarks.journey.page import render_page, table
from benchmarks.journey.road import Journey, Plan, travel
from tests.faults.history import made_up_history, read_independently, real_history

pytestmark = [pytest.mark.linux, pytest.mark.slow, pytest.mark.timeout(900)]
PHASES = ["prototype", "growth", "scale"]


def test_a_store_goes_all_the_way_under_load_and_fails_no_request(
    size: str, seed: int, tmp_path: Path
) -> None:
    history = real_history() if size == "full" else made_up_history(tmp_path / "history.csv", 7)
    plan = Plan(history=history, seed=seed, **SIZES[size])
    journey = gone(plan)
    print(f"\n{table(journey)}\n--seed {seed}")
    assert journey.complaints == [], f"--seed {seed}"
    assert journey.imported["orders"] == read_independently(history).orders
    assert [each.name for each in journey.phases] == PHASES
    figures = {each.name: each for each in journey.figures()}
    offered = plan.phase_s * (plan.reads_per_s + plan.orders_per_s)
    for name in PHASES:
        assert figures[name].requests > offered / 2
        assert figures[name].availability == 1
        assert journey.costs[name].cpu_s > 0
    to_growth, to_scale = journey.moves
    assert 0 < to_growth.declared_s < plan.most_pause_s
    assert (to_scale.declared_s, to_scale.seen_s) == (0, 0)
    assert journey.costs["prototype"].servers_cpu_s == 0 < journey.costs["scale"].servers_cpu_s
    assert "Nothing was found wrong." in render_page(journey, plan)


def gone(plan: Plan) -> Journey:
    with TemporaryDirectory(prefix="tenfold-", ignore_cleanup_errors=True) as folder:
        try:
            return travel(plan, Path(folder), print)
        except NotThereError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
