"""One process of a fleet, driven line by line: `python -m tests.caching.reader FOLDER URL`.

Reads `ask N` and answers with what N callers at once were told, and how often it has computed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tenfold.adapters.valkey.cache import ValkeyCache
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.roles import Role
from tests.caching.shop import ShopBench

PATIENT_MS = 5_000
COSTS_S = 0.3


async def run(folder: Path, url: str) -> None:
    bench = ShopBench(folder, SystemClock())
    bench.doings.slow_s = COSTS_S
    far = ValkeyCache(url, SystemClock(), namespace="shop", timeout_ms=PATIENT_MS)
    await bench.start(far, role=Role.LOOK)
    while not bench.caches.caching.first_tier_live:
        await asyncio.sleep(0.01)
    tell(ready=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        asks = [bench.shop.brief("tea") for _ in range(int(line.split()[1]))]
        answers = await asyncio.gather(*asks, return_exceptions=True)
        told = sorted({str(answer) for answer in answers})
        tell(told=told, answers=len(answers), computed=bench.doings.ran.get("brief", 0))
    await bench.stop()


def tell(**said: object) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), sys.argv[2]))
