"""The journey's pictures, as small SVG files that have their words as text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

from benchmarks.journey.page import IMAGES
from benchmarks.journey.road import Journey
from benchmarks.measure import part

__all__ = ["draw"]

_INK, _PAPER = "#33302b", "#ffffff"
_STORE, _SERVERS, _PAUSE, _MOVE = "#2f6f62", "#c9a25f", "#c4543a", "#f1ece2"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "journey",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "figure.facecolor": _PAPER,
}
_BIN_S = 2.0


def draw(journey: Journey, folder: Path) -> None:
    """Write both pictures into a folder."""
    with mpl.rc_context(_STYLE):
        for name, figure in zip(IMAGES, (_latency(journey), _cost(journey)), strict=True):
            figure.savefig(folder / name, metadata={"Date": None})
            plt.close(figure)


def _latency(journey: Journey) -> Any:
    figure, axes = plt.subplots(figsize=(9, 3.6), layout="constrained")
    began_s = journey.stretches[0].began_s
    bins: dict[int, list[float]] = defaultdict(list)
    for asked in journey.journal:
        at_s = asked.due_s - began_s
        if at_s >= 0 and asked.good:
            bins[int(at_s / _BIN_S)].append(asked.took_s * 1000)
    times = [(at + 0.5) * _BIN_S for at in sorted(bins)]
    found = [sorted(bins[at]) for at in sorted(bins)]
    axes.plot(times, [part(each, 1.0) for each in found], ".", color=_SERVERS, ms=3)
    axes.plot(times, [part(each, 0.95) for each in found], color=_STORE, lw=1, alpha=0.5)
    axes.plot(times, [part(each, 0.5) for each in found], color=_STORE, lw=1.8)
    axes.set_yscale("log")
    axes.set_ylim(bottom=1)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(0, journey.stretches[-1].ended_s - began_s)
    axes.set_xlabel("seconds")
    axes.set_ylabel("latency, ms")
    top = axes.get_ylim()[1]
    for stretch in journey.stretches:
        middle = (stretch.began_s + stretch.ended_s) / 2 - began_s
        if stretch.name not in journey.costs:
            axes.axvspan(stretch.began_s - began_s, stretch.ended_s - began_s, color=_MOVE)
        text = stretch.name if stretch.name in journey.costs else "move"
        axes.text(middle, top, text, ha="center", va="bottom", fontweight="bold")
        if stretch.pause is not None:
            first, last = (each - began_s for each in stretch.pause)
            axes.axvspan(first, last, color=_PAUSE, alpha=0.35)
    axes.text(0.995, 0.03, "line: median · pale line: p95 · dots: slowest · red: declared pause",
              transform=axes.transAxes, ha="right", fontsize=8.5)  # fmt: skip
    return figure


def _cost(journey: Journey) -> Any:
    figure, (cpu, memory) = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
    names = [each.name for each in journey.phases]
    costs = [journey.costs[name] for name in names]
    requests = {each.name: each.requests for each in journey.figures()}
    spent = [each.cpu_s / requests[name] * 1000 for name, each in journey.costs.items()]
    served = [each.servers_cpu_s / requests[name] * 1000 for name, each in journey.costs.items()]
    _stack(cpu, names, spent, served, "{:.1f}")
    cpu.set_title("processor time of a request, ms", loc="left", fontsize=10)
    _stack(memory, names, [c.rss_mb for c in costs], [c.servers_mb for c in costs], "{:.0f}")
    memory.set_title("memory, MB", loc="left", fontsize=10)
    memory.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def _stack(
    axes: Any, names: Sequence[str], store: Sequence[float], servers: Sequence[float], form: str
) -> None:
    axes.bar(names, store, color=_STORE, width=0.55, label="the store's processes")
    axes.bar(names, servers, bottom=store, color=_SERVERS, width=0.55, label="its servers")
    for at, (own, other) in enumerate(zip(store, servers, strict=True)):
        text = form.format(own) + (f" + {form.format(other)}" if other else "")
        axes.text(at, own + other, text, ha="center", va="bottom")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.15)
