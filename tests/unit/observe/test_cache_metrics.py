"""What the cache counts stands in the metrics, each series once."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tenfold.observe.cache import cache_metrics
from tenfold.observe.metrics import render_metrics
from tenfold.path.cache_counts import CacheCounts

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_every_count_is_told() -> None:
    counts = CacheCounts()
    for at, name in enumerate(CacheCounts.__slots__):
        setattr(counts, name, at + 10)
    caching: Any = SimpleNamespace(counts=lambda: {"shop.price": counts}, first_tier_live=True)
    drops: Any = SimpleNamespace(told=7, left=2)
    text = render_metrics(
        [], cache_metrics(caching, drops, entries=3, held_bytes=1234, evicted=5)
    ).decode()
    lines = [line for line in text.splitlines() if line.startswith("tenfold_cache")]
    assert len(lines) == len(set(lines))
    values = sorted(float(line.split()[-1]) for line in lines if "shop.price" in line)
    assert values == [float(at + 10) for at in range(len(CacheCounts.__slots__))]
    assert 'tenfold_cache_dropped_commits_total{outcome="at_once"} 5.0' in lines
    assert "tenfold_cache_first_tier_live 1.0" in lines
    assert "tenfold_cache_held_bytes 1234.0" in lines
    told = set(re.findall(r"^# TYPE (tenfold_cache\w+)", text, re.MULTILINE))
    assert told == set(re.findall(r"`(tenfold_cache\w+)", PAGE.read_text()))
