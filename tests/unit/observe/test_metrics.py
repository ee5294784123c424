from __future__ import annotations

import subprocess
import sys

from prometheus_client.parser import text_string_to_metric_families

from tenfold.observe.metrics import Gauge, render_metrics
from tenfold.path.stops import Stop


def test_stops_of_one_name_become_one_histogram() -> None:
    first, second = Stop("queue"), Stop("queue")
    first.observe("orders.send", "ok", 0.001)
    second.observe("orders.send", "ok", 90.0)
    second.observe('odd "label"\n', "fault", 0.2)
    text = render_metrics([first, second]).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        (sample.name, sample.labels["target"], sample.labels.get("le")): sample.value
        for sample in families["tenfold_stop_seconds"].samples
    }
    assert samples["tenfold_stop_seconds_count", "orders.send", None] == 2
    assert samples["tenfold_stop_seconds_bucket", "orders.send", "60.0"] == 1
    assert samples["tenfold_stop_seconds_bucket", "orders.send", "+Inf"] == 2
    assert samples["tenfold_stop_seconds_count", 'odd "label"\n', None] == 1


def test_gauges_of_one_name_share_a_family() -> None:
    gauges = [
        Gauge(name="queue_entries", help="Entries that wait.", value=3, labels={"module": name})
        for name in ("orders", "payments")
    ]
    text = render_metrics([], gauges).decode()
    assert text.count("# TYPE tenfold_queue_entries gauge") == 1
    assert 'tenfold_queue_entries{module="payments"} 3.0' in text
    assert "process_resident_memory_bytes" in text


def test_importing_metrics_does_not_import_prometheus() -> None:
    code = "import sys, tenfold.observe.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
