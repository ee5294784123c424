"""`make journey`: one store goes from prototype over growth to scale under load, and is judged.

python -m benchmarks.journey [--size small|full] [--history FILE] [--seed N] [--page FILE]

Prints the figures of each phase and move, writes them with pictures where
`--page` says, and ends with 1 where a request failed or a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from benchmarks.journey.machines import NotThereError
from benchmarks.journey.page import render_page, table
from benchmarks.journey.road import Plan, travel
from benchmarks.processes import ROOT

__all__ = ["SIZES", "main"]

SIZES = {
    "small": {"phase_s": 8.0, "rest_s": 1.0, "reads_per_s": 8.0, "orders_per_s": 2.0},
    "full": {"phase_s": 50.0, "rest_s": 8.0, "reads_per_s": 20.0, "orders_per_s": 3.0},
}
_NEAR = ROOT.parent / "shared" / "data" / "online_retail.csv.gz"


def main() -> int:
    """Go the way and tell; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journey")
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--history", type=Path, help="orders of the past; also TENFOLD_HISTORY")
    parser.add_argument("--seed", type=int, help="what chance begins with")
    parser.add_argument("--page", type=Path, help="where the page is written; its pictures beside")
    given = parser.parse_args()
    history = given.history or Path(os.environ.get("TENFOLD_HISTORY") or _NEAR)
    if not history.is_file():
        print(
            f"There is no order history at {history}. Nothing was started. Say where it is: "
            "make journey HISTORY=path, or TENFOLD_HISTORY.",
            file=sys.stderr,
        )
        return 2
    seed = SystemRandom().randrange(2**32) if given.seed is None else given.seed
    plan = Plan(history=history, seed=seed, **SIZES[given.size])
    with tempfile.TemporaryDirectory(prefix="tenfold-", ignore_cleanup_errors=True) as folder:
        try:
            journey = travel(plan, Path(folder), lambda text: print(text, flush=True))
        except NotThereError as error:
            print(error, file=sys.stderr)
            return 2
    print(f"\n{table(journey)}\n\n{journey.noise}; --seed {seed}")
    if given.page is not None:
        from benchmarks.journey.plots import draw

        images = given.page.parent / "images"
        images.mkdir(exist_ok=True)
        draw(journey, images)
        given.page.write_text(render_page(journey, plan), encoding="utf-8")
        print(f"Written to {given.page}, with pictures beside it.")
    for text in journey.complaints:
        print(f"not so: {text}", file=sys.stderr)
    return 1 if journey.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
