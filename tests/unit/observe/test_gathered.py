"""Several processes' metrics as one text, which Prometheus's own parser takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tenfold.observe.gathered import Family, merge_texts
from tenfold.observe.metrics import Counter, Gauge, render_gauges, render_metrics
from tenfold.path.stops import Stop


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def test_every_series_says_whose_it_is_and_a_metric_stands_there_once() -> None:
    stop = Stop("edge")
    stop.observe('odd } "label"\\ \n', "ok", 0.2)
    gauge = Gauge(name="calls_in_flight", help="Calls.", value=3)
    counter = Counter(name="worked_entries", help="Done.", value=2, labels={"module": "a"})
    first = render_metrics([stop], [gauge, counter]).decode()
    second = render_metrics([], [gauge]).decode()
    merged = merge_texts([({"process": "web-1"}, first), ({"process": "web-2"}, second)])
    for head in ("# TYPE tenfold_calls_in_flight gauge", "# HELP tenfold_stop_seconds "):
        assert merged.count(head) == 1
    expected = {
        (name, labels | {("process", process)}): value
        for process, text in (("web-1", first), ("web-2", second))
        for (name, labels), value in samples(text).items()
    }
    assert samples(merged) == expected


@given(st.lists(st.text(), min_size=1, max_size=4, unique=True))
def test_no_value_of_a_label_breaks_the_text(values: list[str]) -> None:
    gauges = [Gauge(name="a", help="A.", value=1, labels={"x": value}) for value in values]
    text = render_gauges(gauges).decode("utf-8", "surrogatepass")
    merged = merge_texts([({"process": "p"}, text)])
    lines = [line for line in merged.split("\n") if line.startswith("tenfold_a{")]
    assert len(lines) == len(values)
    assert merged.count('{process="p",x="') == len(values)


def test_a_family_reads_as_prometheus_writes_it() -> None:
    family = Family("tenfold_up", "gauge", "Whether.")
    family.add({"process": 'a"b\\\n'}, 1)
    assert samples(family.text()) == {("tenfold_up", frozenset({("process", 'a"b\\\n')})): 1.0}


def test_of_no_process_nothing_is_told() -> None:
    assert merge_texts([]) == ""
