"""`store import` of real orders, from the file's first byte until every order is settled.

The file is the UCI Online Retail extract. It is not part of the repository: say
where it is by an argument of `python -m benchmarks` or `TENFOLD_BENCH_CSV`.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Figure, Noise
from benchmarks.processes import STORE

__all__ = ["measure"]

_RUN = "from store.cli import main; main()"


def measure(rounds: int, noise: Noise, file: Path | None = None) -> list[Figure]:
    """Orders and lines a second; nothing where there is no file."""
    file = file or Path(os.environ.get("TENFOLD_BENCH_CSV", "nowhere"))
    if not file.is_file():
        return []
    orders, lines, cpu = [], [], []
    for _ in range(rounds):
        noise.probe()
        with tempfile.TemporaryDirectory() as data:
            before = _children_cpu_s()
            done = _import(file, Path(data))
            spent = _children_cpu_s() - before
        orders.append(done["orders"] / done["seconds"])
        lines.append(done["taken"] / done["seconds"])
        cpu.append(spent / done["orders"] * 1000)
    return [
        Figure("store import until settled", "orders/s", orders, "goal 200"),
        Figure("store import until settled, lines taken", "lines/s", lines, "goal 4,000"),
        Figure("store import, processor time for an order", "ms", cpu),
    ]


def _import(file: Path, data: Path) -> dict[str, float]:
    command = [sys.executable, "-c", _RUN, "import", str(file), "--json"]
    command += ["--data", str(data / "data"), "--refused", str(data / "refused.csv")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, check=False, cwd=STORE, env=environ, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"the import failed: {done.stderr}")
    read: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return read


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
