"""Metrics as Prometheus text (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.path.stops import BUCKETS_S, Stop

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "render_gauges", "render_metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Gauge(Struct):
    """A value of this moment: how many entries wait, how old the oldest is.

    `name` ends with its unit (`_entries`, `_seconds`) and is prefixed with
    `tenfold_` in the text. Gauges of one name have the same label names.
    """

    name: str
    help: str
    value: float
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class Counter(Struct):
    """What has been counted since the process started; otherwise as `Gauge`.

    In the text the name ends with `_total`.
    """

    name: str
    help: str
    value: float
    labels: dict[str, str] = msgspec.field(default_factory=dict)


def render_metrics(stops: Iterable[Stop], gauges: Iterable[Gauge | Counter] = ()) -> bytes:
    """All that the stops have counted, the gauges and counters, and the process's own figures.

    Stops of one name (a queue for each module) become one histogram,
    `tenfold_stop_seconds` with the labels `stop`, `target` and `outcome`.
    prometheus_client is imported by the first call: a process that nobody asks
    for metrics does without it.
    """
    from prometheus_client.exposition import generate_latest

    return bytes(generate_latest(_Registry(stops, gauges)))


def render_gauges(gauges: Iterable[Gauge | Counter]) -> bytes:
    """These alone, otherwise as `render_metrics`."""
    from prometheus_client.exposition import generate_latest

    return bytes(generate_latest(_Gauges(gauges)))


class _Gauges:
    def __init__(self, gauges: Iterable[Gauge | Counter]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        """The metric families, by name."""
        yield from _gauge_families(self._gauges)


class _Registry:
    """What `generate_latest` collects from, for one rendering."""

    def __init__(self, stops: Iterable[Stop], gauges: Iterable[Gauge | Counter]) -> None:
        self._stops = stops
        self._gauges = gauges

    def collect(self) -> Iterator[Any]:
        """The metric families, in a fixed order."""
        yield _histogram(self._stops)
        yield from _gauge_families(self._gauges)
        yield from _process().collect()


def _histogram(stops: Iterable[Stop]) -> Any:
    from prometheus_client.metrics_core import HistogramMetricFamily

    cells: dict[tuple[str, str, str], tuple[list[int], float]] = {}
    for stop in stops:
        for count in stop.snapshot():
            key = (stop.name, count.label, count.outcome)
            buckets, seconds = cells.get(key, ([0] * (len(BUCKETS_S) + 1), 0.0))
            merged = [a + b for a, b in zip(buckets, count.buckets, strict=True)]
            cells[key] = (merged, seconds + count.seconds)
    family = HistogramMetricFamily(
        "tenfold_stop_seconds",
        "Time that messages took at each stop of the path.",
        labels=["stop", "target", "outcome"],
    )
    bounds = [*(str(bound) for bound in BUCKETS_S), "+Inf"]
    for key, (buckets, seconds) in sorted(cells.items()):
        running, cumulative = 0, []
        for bound, number in zip(bounds, buckets, strict=True):
            running += number
            cumulative.append((bound, running))
        family.add_metric(list(key), cumulative, seconds)
    return family


def _gauge_families(gauges: Iterable[Gauge | Counter]) -> list[Any]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    families: dict[str, Any] = {}
    for gauge in gauges:
        family = families.get(gauge.name)
        if family is None:
            kind = GaugeMetricFamily if isinstance(gauge, Gauge) else CounterMetricFamily
            family = families[gauge.name] = kind(
                f"tenfold_{gauge.name}", gauge.help, labels=list(gauge.labels)
            )
        family.add_metric(list(gauge.labels.values()), gauge.value)
    return [families[name] for name in sorted(families)]


@cache
def _process() -> Any:
    """Memory, CPU time and open files of this process; nothing where /proc is missing."""
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import CollectorRegistry

    return ProcessCollector(registry=CollectorRegistry())
