"""A process that stands still beyond its leases, then goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest

from tests.faults.journal import Journal, Load
from tests.faults.judge import await_settled, complaints
from tests.faults.store_process import StoreProcess, free_port, product_file

LEASE_S = 30.0


@pytest.mark.slow
def test_after_a_pause_beyond_its_leases_nothing_is_lost_or_happens_twice(
    tmp_path: Path, size: str, seed: int
) -> None:
    pause_s = LEASE_S + 3 if size == "full" else 1.0
    data, port, journal = tmp_path / "data", free_port(), Journal()
    load = Load(journal, port, Random(seed), threads=12)
    with StoreProcess(data, port, settings=product_file(tmp_path)) as store:
        assert store.await_ready(), store.tail()
        load.start()
        try:
            time.sleep(0.7)  # so long it is under load
            os.kill(store.pid, signal.SIGSTOP)
            time.sleep(pause_s)  # so long it stands still
            os.kill(store.pid, signal.SIGCONT)
            time.sleep(0.5)  # and so long it goes on under load
        finally:
            os.kill(store.pid, signal.SIGCONT)
            load.stop()
        load.settle()
        assert await_settled(data) == []
        assert complaints(journal, port, data) == [], f"--seed {seed}"
        assert store.stop() == 0
