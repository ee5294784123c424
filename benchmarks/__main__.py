"""`make bench`: measure, and print each figure beside what it is compared with.

python -m benchmarks [--rounds N] [--csv FILE] [idle calls http units order import
    frames http-postgres units-postgres queue-postgres relay-postgres tax brokers]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import calls, http, idle, importing, order, units
from benchmarks.measure import Figure, Noise

__all__ = ["main"]

PARTS = ("idle", "calls", "http", "units", "order", "import")
PROGRAMS = {
    "frames": "frames",
    "http-postgres": "http_postgres",
    "units-postgres": "postgres_store",
    "queue-postgres": "queue_postgres",
    "relay-postgres": "relay_postgres",
    "tax": "tax",
    "brokers": "brokers",
}
"""Programs of their own, on servers that they start; each prints its own table."""


def main() -> None:
    """Run the parts that were asked for, all where none was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join((*PARTS, *PROGRAMS)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="the Online Retail extract, for the import")
    given = parser.parse_args()
    known = (*PARTS, *PROGRAMS)
    unknown = set(given.parts) - set(known)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = given.parts or known
    if set(chosen) & set(PARTS):
        _print_here(chosen, given.rounds, given.csv)
    for part, module in PROGRAMS.items():
        if part in chosen:
            print(f"\n{part}:", flush=True)
            command = [sys.executable, "-m", f"benchmarks.{module}", "--rounds", str(given.rounds)]
            subprocess.run(command, check=True)


def _print_here(chosen: Sequence[str], rounds: int, csv: Path | None) -> None:
    """Measure what needs no server, and print it as one table."""
    noise = Noise()
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    for part in PARTS:
        if part not in chosen:
            continue
        for figure in _measure(part, rounds, noise, csv):
            print(figure.line(), flush=True)
    print(noise.line())
    if "idle" in chosen:
        print("\nwhat importing the store costs, by package:")
        print("\n".join(idle.heaviest_imports()))


def _measure(part: str, rounds: int, noise: Noise, csv: Path | None) -> list[Figure]:
    if part == "import":
        found = importing.measure(min(rounds, 3), noise, csv)
        if not found:
            print("store import: skipped; give the file by --csv or TENFOLD_BENCH_CSV")
        return found
    return {"idle": idle, "calls": calls, "http": http, "units": units, "order": order}[
        part
    ].measure(rounds, noise)


if __name__ == "__main__":
    main()
