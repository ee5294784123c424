"""What is measured of several processes behind one port, and processes that hang."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.supervised import APP, Supervised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
_SOON_S = 30.0
NAMES = {"web-1", "web-2", "worker-1"}
STUCK = APP.replace(
    'if path == "/crash":', 'if path == "/stuck": stand_still()\n    if path == "/crash":'
)
STUCK = "import time\n\n\ndef stand_still():\n    time.sleep(600)\n\n" + STUCK

Samples = dict[tuple[str, str], float]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path) as running:
        yield running.await_ready()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path, {"hung_s": 5.0}, app=STUCK.format(version="1")) as running:
        yield running.await_ready()


def scraped(supervised: Supervised) -> Samples:
    """The samples of one answer, by name and process, those of other labels added up."""
    found: Samples = {}
    for family in text_string_to_metric_families(supervised.get("/metrics")):
        for sample in family.samples:
            key = sample.name, sample.labels["process"]
            found[key] = found.get(key, 0.0) + sample.value
    return found


def of(samples: Samples, name: str) -> dict[str, float]:
    return {process: value for (each, process), value in samples.items() if each == name}


def await_restarted(supervised: Supervised, name: str) -> Samples:
    until = time.monotonic() + _SOON_S
    while True:
        samples = scraped(supervised)
        if samples["tenfold_process_restarts_total", name] and samples["tenfold_process_up", name]:
            return samples
        assert time.monotonic() < until, supervised.said()
        time.sleep(0.1)


def stick(supervised: Supervised) -> None:
    """Let a request stop the loop of the process that takes it; its connection is cut then."""
    with pytest.raises(OSError):
        supervised.get("/stuck")


def test_any_process_answers_for_all_of_them(supervised: Supervised) -> None:
    for _ in range(20):
        supervised.get("/metrics")
    answers = [scraped(supervised) for _ in range(20)]
    for samples in answers:
        assert of(samples, "tenfold_process_up") == dict.fromkeys(NAMES, 1.0)
        assert of(samples, "tenfold_process_restarts_total") == dict.fromkeys(NAMES, 0.0)
        assert set(of(samples, "process_resident_memory_bytes")) == NAMES
        assert set(of(samples, "tenfold_calls_in_flight")) == NAMES
    counts = [sum(of(samples, "tenfold_stop_seconds_count").values()) for samples in answers]
    # Each answer counts when it has been given, whichever process gave it: none goes back.
    assert counts == sorted(counts)
    assert counts[-1] - counts[0] >= 18
    assert supervised.stop() == 0


def test_many_who_ask_at_once_are_answered(supervised: Supervised) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: scraped(supervised), range(100)))
    told = [set(of(each, "process_cpu_seconds_total")) for each in answers]
    assert all(told)  # by those at least that had time within a second
    assert NAMES in told
    assert supervised.stop() == 0


def test_a_killed_process_counts_as_started_again(supervised: Supervised) -> None:
    os.kill(supervised.pids()["worker-1"], signal.SIGKILL)
    samples = await_restarted(supervised, "worker-1")
    assert of(samples, "tenfold_process_restarts_total") == {"web-1": 0, "web-2": 0, "worker-1": 1}
    assert supervised.stop() == 0


def test_a_process_that_does_not_answer_is_told_as_down_and_the_others_are_told(
    supervised: Supervised,
) -> None:
    pid = supervised.pids()["worker-1"]
    os.kill(pid, signal.SIGSTOP)
    try:
        samples = scraped(supervised)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert of(samples, "tenfold_process_up") == {"web-1": 1, "web-2": 1, "worker-1": 0}
    assert set(of(samples, "process_resident_memory_bytes")) == {"web-1", "web-2"}
    assert supervised.stop() == 0


def test_without_its_supervisor_a_process_answers_for_itself(supervised: Supervised) -> None:
    os.kill(supervised.process.pid, signal.SIGSTOP)
    try:
        samples = scraped(supervised)
    finally:
        os.kill(supervised.process.pid, signal.SIGCONT)
    (name,) = of(samples, "process_resident_memory_bytes")
    assert name in NAMES
    assert not of(samples, "tenfold_process_up")
    assert of(scraped(supervised), "tenfold_process_up") == dict.fromkeys(NAMES, 1.0)
    assert supervised.stop() == 0


def test_a_process_whose_loop_stands_still_is_killed_and_started_again(
    watched: Supervised,
) -> None:
    before = watched.pids()
    began_s = time.monotonic()
    stick(watched)
    assert 4.0 < time.monotonic() - began_s < 30.0
    watched.await_said("did nothing for 5 s and was killed. It is started again")
    assert "has stood still for 5 s, so that it is killed" in watched.said()
    assert "in stand_still" in watched.said()  # where it stood
    gone = next(n for n, pid in before.items() if f"(process {pid}) did nothing" in watched.said())
    await_restarted(watched, gone)
    after = watched.pids()
    assert {name for name in NAMES if before[name] != after[name]} == {gone}
    assert watched.get("/") == "1"
    assert watched.stop() == 0


def test_a_process_that_is_stopped_from_outside_is_killed(watched: Supervised) -> None:
    os.kill(watched.pids()["worker-1"], signal.SIGSTOP)
    await_restarted(watched, "worker-1")
    assert watched.stop() == 0


def test_a_supervisor_that_was_stopped_itself_takes_nobody_for_hung(
    watched: Supervised,
) -> None:
    before = watched.pids()
    os.kill(watched.process.pid, signal.SIGSTOP)
    time.sleep(10.0)  # twice what a process may be silent
    os.kill(watched.process.pid, signal.SIGCONT)
    time.sleep(2.0)  # so that it could have looked
    assert watched.pids() == before
    assert watched.stop() == 0


def test_with_0_a_loop_may_stand_still(tmp_path: Path) -> None:
    app = STUCK.replace("time.sleep(600)", "time.sleep(6)")
    with Supervised(tmp_path, {"hung_s": 0.0}, app=app.format(version="1")) as supervised:
        supervised.await_ready()
        before = supervised.pids()
        supervised.get("/stuck")
        assert supervised.pids() == before
        assert supervised.stop() == 0
