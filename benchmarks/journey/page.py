"""What a journey came to, for people: a table for the terminal, and `docs/journey.md`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.journey.figures import Figures
from benchmarks.journey.road import Journey, Plan

__all__ = ["IMAGES", "render_page", "table"]

IMAGES = ("journey-latency.svg", "journey-cost.svg")
_MOVES = ("prototype to growth", "growth to scale")
_READS = ("page", "product", "search", "order", "history")
_PAGE = Path(__file__).with_name("page.md")
_HEADS = (
    "",
    "requests a second",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "longest ms",
    "availability",
    "in the pause",
    "failed",
    "CPU a request, ms",
    "servers' CPU, ms",
    "memory MB",
    "servers' MB",
    "memory a request/s, MB",
)


def table(journey: Journey) -> str:
    """All requests by stretch, and how long the moves took, as columns for the terminal."""
    moves = "\n".join(f"{what:<65} {took}" for what, took in _steps(journey))
    return f"{_aligned([_HEADS, *_rows(journey)])}\n\n{moves}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def render_page(journey: Journey, plan: Plan) -> str:
    """The page as a whole."""
    placed = sum(each.kind == "place" for each in journey.journal)
    return _PAGE.read_text(encoding="utf-8").format(
        when=f"{datetime.now(UTC):%d %B %Y}",
        machine=f"{os.cpu_count()} processors, Python {platform.python_version()}",
        noise=f"Of the machine's evenness: {journey.noise.removeprefix('noise: ')}",
        orders=journey.imported["orders"],
        import_s=journey.imported["seconds"],
        reads=plan.reads_per_s,
        places=plan.orders_per_s,
        requests=len(journey.journal),
        placed=placed,
        phase_s=plan.phase_s,
        all=_markdown(_HEADS, _rows(journey)),
        reads_table=_by_kind(journey, _READS),
        orders_table=_by_kind(journey, ("place",)),
        moves=_markdown(("", "took"), _bold(_steps(journey))),
        rows=journey.rows,
        most_pause=plan.most_pause_s,
        verdict=_verdict(journey),
    )


def _rows(journey: Journey) -> Iterator[tuple[str, ...]]:
    for each in journey.figures():
        cost = journey.costs.get(each.name)
        costs = ("", "", "", "", "")
        if cost is not None:
            costs = (
                f"{cost.cpu_s / each.requests * 1000:.2f}",
                f"{cost.servers_cpu_s / each.requests * 1000:.2f}",
                f"{cost.rss_mb:.0f}",
                f"{cost.servers_mb:.0f}",
                f"{cost.rss_mb / each.per_s:.1f}",
            )
        yield (*_latencies(each), *_judged(each), *costs)


def _latencies(each: Figures) -> tuple[str, ...]:
    times = (each.p50_ms, each.p95_ms, each.p99_ms, each.longest_ms)
    return (each.name, f"{each.per_s:.1f}", *(f"{time:,.1f}" for time in times))


def _judged(each: Figures) -> tuple[str, ...]:
    return (f"{each.availability:.3%}", str(each.paused), str(each.failed))


def _by_kind(journey: Journey, kinds: Sequence[str]) -> str:
    rows = [(*_latencies(each), *_judged(each)) for each in journey.figures(kinds)]
    return _markdown(_HEADS[:9], rows)


def _steps(journey: Journey) -> Iterator[tuple[str, str]]:
    for move in journey.moves:
        yield move.name, f"{move.took_s:.1f} s"
        for step, seconds in move.steps.items():
            yield f"… {step}", f"{seconds:.2f} s"
        yield "pause that was declared", f"{move.declared_s:.2f} s" if move.declared_s else "none"
        yield "customers were turned away for", f"{move.seen_s:.2f} s" if move.seen_s else "never"
        yield "the longest that anybody waited", f"{move.longest_s:.2f} s"
        yield "memory while both ran", f"{move.both_mb:.0f} MB"


def _bold(steps: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for what, took in steps:
        yield (f"**{what}**", f"**{took}**") if what in _MOVES else (what, took)


def _verdict(journey: Journey) -> str:
    if not journey.complaints:
        return "Nothing was found wrong."
    found = "\n".join(f"- {text}" for text in journey.complaints[:20])
    return f"**{len(journey.complaints)} things were found wrong:**\n\n{found}"


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
