"""Which processes there are, and when one that ended is started again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.runtimes.processes import (
    PlannedProcess,
    decide_failures,
    decide_hung_beats,
    decide_names_here,
    decide_order,
    decide_processes,
    decide_restart,
)
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import ProcessSettings, ServiceSettings

SETTINGS = ProcessSettings(restart_min_s=0.1, restart_max_s=10.0)


@pytest.mark.parametrize(
    ("web", "workers", "expected"),
    [
        (1, 0, [("web-1", Role.ALL)]),
        (2, 0, [("web-1", Role.ALL), ("web-2", Role.ALL)]),
        (1, 1, [("web-1", Role.WEB), ("worker-1", Role.WORKER)]),
        (0, 2, [("worker-1", Role.WORKER), ("worker-2", Role.WORKER)]),
    ],
)
def test_processes_share_the_work(web: int, workers: int, expected: list[tuple[str, Role]]) -> None:
    planned = decide_processes(ProcessSettings(web=web, workers=workers))
    assert [(each.name, each.role) for each in planned] == expected


def test_a_service_runs_here_that_has_only_workers_here() -> None:
    services = {
        "catalog": ServiceSettings(modules=("catalog",), replicas=2, workers=1),
        "ordering": ServiceSettings(modules=("orders",), replicas=0, workers=1),
        "billing": ServiceSettings(modules=("billing",), replicas=0),
    }
    assert decide_names_here(services) == ("catalog", "ordering")


def test_services_have_processes_of_their_own_behind_gateways() -> None:
    planned = decide_processes(
        ProcessSettings(web=2),
        {
            "catalog": ServiceSettings(modules=("catalog",), replicas=2),
            "ordering": ServiceSettings(modules=("orders", "stock"), workers=1),
        },
    )
    assert [(each.name, each.role, each.service, each.serves) for each in planned] == [
        ("gateway-1", Role.WEB, "", True),
        ("gateway-2", Role.WEB, "", True),
        ("catalog-1", Role.ALL, "catalog", False),
        ("catalog-2", Role.ALL, "catalog", False),
        ("ordering-1", Role.WEB, "ordering", False),
        ("ordering-worker-1", Role.WORKER, "ordering", False),
    ]
    assert [each.name for each in decide_order(planned)] == [
        *("catalog-1", "catalog-2", "ordering-1", "ordering-worker-1"),
        *("gateway-1", "gateway-2"),
    ]


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_restart_waits_longer_after_each_failure_up_to_a_bound(
    failures: int, chance: float
) -> None:
    wait_s = decide_restart(failures, chance=chance, settings=SETTINGS)
    assert 0.05 <= wait_s <= 10.0
    assert wait_s <= 0.1 * 2.0 ** min(failures - 1, 30)
    if failures >= 8:
        assert wait_s >= 5.0


def test_chance_spreads_restarts() -> None:
    waits = [decide_restart(3, chance=c, settings=SETTINGS) for c in (0.0, 0.5, 1.0)]
    assert waits == pytest.approx([0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    ("failures", "served_s", "expected"), [(0, None, 1), (3, None, 4), (3, 9.9, 4), (3, 10.0, 1)]
)
def test_a_process_that_has_served_long_begins_to_count_anew(
    failures: int, served_s: float | None, expected: int
) -> None:
    assert decide_failures(failures, served_s=served_s, settings=SETTINGS) == expected


def test_workers_are_replaced_first() -> None:
    wanted = decide_processes(ProcessSettings(web=2, workers=1))
    assert [each.name for each in decide_order(wanted)] == ["worker-1", "web-1", "web-2"]


def test_only_workers_do_not_serve() -> None:
    assert [PlannedProcess(name="x", role=r).serves for r in (Role.ALL, Role.WEB, Role.WORKER)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("hung_s", "beats"), [(0.0, None), (0.5, 3), (3.0, 3), (30.0, 30), (30.5, 31)]
)
def test_a_process_hangs_that_has_not_beaten_for_so_long(hung_s: float, beats: int | None) -> None:
    assert decide_hung_beats(hung_s, beat_s=1.0) == beats
