"""`make bench`: measure, and print each figure beside what it is compared with.

python -m benchmarks [--rounds N] [--csv FILE] [idle calls http units order import]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import calls, http, idle, importing, order, units
from benchmarks.measure import Figure, Noise

__all__ = ["main"]

PARTS = ("idle", "calls", "http", "units", "order", "import")


def main() -> None:
    """Run the parts that were asked for, all where none was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="the Online Retail extract, for the import")
    given = parser.parse_args()
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    chosen = given.parts or PARTS
    noise = Noise()
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    for part in PARTS:
        if part not in chosen:
            continue
        for figure in _measure(part, given.rounds, noise, given.csv):
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
