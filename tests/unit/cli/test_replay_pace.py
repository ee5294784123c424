"""How fast `tenfold queue replay` puts the past into a queue."""

from __future__ import annotations

import pytest

from tenfold.cli.queue import decide_pause_s
from tenfold.runtimes.desk import Replayed


@pytest.mark.parametrize(
    ("before", "waiting", "pause_s"),
    [
        (0, 400, 0.0),  # they are worked as fast as they come
        (1000, 1400, 0.45),
        (1000, 1500, 0.0),  # nobody works
        (90_000, 90_499, 2.0),  # however much waits
    ],
)
def test_more_is_queued_when_what_waits_is_worked(
    before: int, waiting: int, pause_s: float
) -> None:
    bite = Replayed(run=1, position=1, upto=9, added=500, waiting=waiting)
    assert decide_pause_s(before, bite) == pytest.approx(pause_s)
