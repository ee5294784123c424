"""What a process's door is made from: whom its limits are shared with."""

from __future__ import annotations

import pytest

from tenfold.runtimes.balancers.settings import BalancerSettings
from tenfold.runtimes.doors import door_settings
from tenfold.runtimes.settings import ProcessSettings
from tenfold.runtimes.topology import Topology


@pytest.mark.parametrize(
    ("web", "machines", "expected"),
    [(1, 0, 1), (4, 0, 4), (4, 1, 4), (4, 3, 12), (0, 2, 2)],
)
def test_limits_are_shared_by_the_web_processes_of_all_machines(
    web: int, machines: int, expected: int
) -> None:
    servers = tuple(f"10.0.0.{number}:8000" for number in range(machines))
    topology = Topology(
        processes=ProcessSettings(web=web, workers=1), balancer=BalancerSettings(servers=servers)
    )
    assert door_settings("shop", topology).processes == expected
