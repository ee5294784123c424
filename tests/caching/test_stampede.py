"""Many readers at an answer's expiry, in several processes: one of them computes.

pytest tests/caching/test_stampede.py --size full
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.caching.shop import ShopBench

PROCESSES = 4
ROOT = Path(__file__).parents[2]


class Reader:
    """A process of the fleet."""

    def __init__(self, folder: Path, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.caching.reader", str(folder), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the process ended"
        told: dict[str, Any] = json.loads(line)
        return told

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    bench = ShopBench(tmp_path)
    await bench.start()
    await bench.shop.set_price("tea", 255)
    await bench.stop()
    return tmp_path


@pytest.fixture
def fleet(folder: Path, valkey_url: str) -> Iterator[list[Reader]]:
    readers = [Reader(folder, valkey_url) for _ in range(PROCESSES)]
    for reader in readers:
        assert reader.hear() == {"ready": True}
    yield readers
    for reader in readers:
        reader.end()


def ask(fleet: list[Reader], callers: int) -> int:
    """Let so many ask at once; returns how many computations there were since the start."""
    for reader in fleet:
        reader.send(f"ask {callers // len(fleet)}")
    heard = [reader.hear() for reader in fleet]
    assert sum(each["answers"] for each in heard) == callers
    assert {tuple(each["told"]) for each in heard} == {("255",)}
    return sum(int(each["computed"]) for each in heard)


@pytest.mark.anyio
async def test_at_an_answers_expiry_one_process_computes(
    fleet: list[Reader], valkey_url: str, size: str
) -> None:
    callers, rounds = (10_000, 10) if size == "full" else (2_000, 2)
    assert ask(fleet, callers) == 1
    with redis.Redis.from_url(valkey_url) as client:
        for number in range(2, rounds + 1):
            until = time.monotonic() + 20
            while client.keys("shop:*:e:*"):
                assert time.monotonic() < until
                time.sleep(0.001)
            assert ask(fleet, callers) == number
