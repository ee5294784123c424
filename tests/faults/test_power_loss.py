"""What was answered is on the disk: the log's sync comes before the reply's first byte."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.store_process import StoreProcess, Wire, free_port
from tests.faults.tracing import Calls, tracing_command

pytestmark = pytest.mark.linux
_WRITES = {"write", "writev", "sendto", "sendmsg"}


def sync_before_reply(folder: Path, synchronous: str) -> bool:
    """Whether the log was synced between an order's write and the reply to it."""
    port, trace = free_port(), folder / "trace"
    marker = f"buyer-{uuid4().hex}"
    with StoreProcess(
        folder / "data",
        port,
        trap=("none", 1, "ready"),
        under=tracing_command(trace),
        settings={"FAULTS_SYNCHRONOUS": synchronous},
    ) as store:
        assert store.await_ready(60), store.tail()
        wire = Wire(port)
        product = wire.get("/v1/products?limit=1").body["items"][0]["id"]
        line = {"product_id": product, "quantity": 1}
        answer = wire.post("/v1/orders", {"customer_id": marker, "lines": [line]})
        assert answer.status == 201, answer
        wire.close()
        assert store.stop() == 0
    calls = Calls(trace)
    written = calls.first({"pwrite64"}, "orders.db-wal", marker)
    assert written is not None, "the trace has no write of the order"
    reply = calls.first(_WRITES, "HTTP/1.1 201", after=written[0])
    assert reply is not None, "the trace has no reply"
    synced = calls.first({"fdatasync", "fsync"}, "orders.db-wal", "= 0", after=written[1])
    return synced is not None and synced[1] < reply[0]


def test_the_log_is_synced_before_the_reply(tmp_path: Path) -> None:
    assert sync_before_reply(tmp_path, "FULL")


def test_the_trace_would_show_a_log_that_is_not_synced(tmp_path: Path) -> None:
    assert not sync_before_reply(tmp_path, "NORMAL")
