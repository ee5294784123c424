from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
import structlog

from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.observe.logs import configure_logs
from tenfold.ports.unit import CURRENT, Message

ENVELOPE = Envelope(
    id="m1",
    kind=Kind.COMMAND,
    target="orders.place_order",
    payload={"card": "4111"},
    principal=OPERATOR,
    tenant="main",
    trace=TraceContext(trace_id="a" * 32, span_id="b" * 16),
    at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_names_the_message_being_handled_and_never_its_payload(out: io.StringIO) -> None:
    configure_logs(out)
    token = CURRENT.set(Message(ENVELOPE, Kind.COMMAND, "orders", 0.0, None))
    try:
        structlog.get_logger().info("placed", lines=2)
        logging.getLogger("other").warning("slow by %d ms", 7)
    finally:
        CURRENT.reset(token)
    first, second = (msgspec.json.decode(line) for line in out.getvalue().splitlines())
    assert first["event"] == "placed"
    assert first["lines"] == 2
    assert second["event"] == "slow by 7 ms"
    for line in (first, second):
        assert line["trace_id"] == "a" * 32
        assert line["span_id"] == "b" * 16
        assert (line["tenant"], line["module"]) == ("main", "orders")
        assert line["target"] == "orders.place_order"
    assert "4111" not in out.getvalue()


def test_an_exception_stays_on_one_line(out: io.StringIO) -> None:
    configure_logs(out)
    try:
        raise ValueError("wrong")
    except ValueError:
        logging.getLogger("x").exception("failed")
        structlog.get_logger().exception("failed too")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert all("ValueError: wrong" in msgspec.json.decode(line)["exception"] for line in lines)


def test_lines_below_the_level_are_dropped(out: io.StringIO) -> None:
    configure_logs(out, level=logging.WARNING)
    structlog.get_logger().info("quiet")
    logging.getLogger("x").info("quiet")
    assert out.getvalue() == ""


def test_people_get_text(out: io.StringIO) -> None:
    configure_logs(out, people=True)
    structlog.get_logger().info("started", port=8000)
    assert "started" in out.getvalue()
    assert "port=8000" in out.getvalue()
