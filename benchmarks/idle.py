"""How long the store takes to be ready, and what it holds while nobody asks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Figure, Noise, process_cpu_s, process_rss_mb
from benchmarks.processes import STORE, product_server

__all__ = ["heaviest_imports", "measure"]

IDLE_S = 3.0


def measure(rounds: int, noise: Noise) -> list[Figure]:
    """The first start, which migrates and seeds, then starts on the data that is there."""
    first, again, rss, cpu = [], [], [], []
    for _ in range(rounds):
        noise.probe()
        with tempfile.TemporaryDirectory() as data:
            with product_server(STORE, Path(data)) as server:
                first.append(server.started_s)
            with product_server(STORE, Path(data)) as server:
                again.append(server.started_s)
                before = process_cpu_s(server.pid)
                time.sleep(IDLE_S)
                rss.append(process_rss_mb(server.pid))
                cpu.append((process_cpu_s(server.pid) - before) / IDLE_S * 100)
    return [
        Figure("store, first start to ready (migrates, seeds)", "s", first, "goal 1"),
        Figure("store, a further start to ready", "s", again, "goal 1"),
        Figure("store, memory after 3 s idle (RSS)", "MB", rss, "goal < 80"),
        Figure("store, processor time while idle", "%", cpu),
    ]


def heaviest_imports(most: int = 12) -> list[str]:
    """The packages that a served store has imported, by the time that importing them takes."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from tenfold.runtimes.topology import load_product\n"
        "from pathlib import Path\n"
        "load_product(Path(sys.argv[-1]), 'prototype')\n"
        "import tenfold.runtimes.server\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *sys.path, str(STORE)],
        capture_output=True,
        text=True,
        check=True,
    )
    spent: dict[str, int] = {}
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            package = ".".join(parts[2].strip().split(".")[:1])
            spent[package] = spent.get(package, 0) + int(parts[0])
    ordered = sorted(spent.items(), key=lambda item: -item[1])
    return [f"{us / 1000:6.1f} ms  {package}" for package, us in ordered[:most]]
