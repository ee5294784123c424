"""What the log says of background work that failed, for whoever has to find and mend it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import structlog

from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.observe.logs import configure_logs
from tenfold.path.declare import Background
from tenfold.ports.records import Claimed
from tenfold.testing.queue_suite import entry
from tests.unit.background.conftest import Crew
from tests.unit.background.test_worker import rest

pytestmark = pytest.mark.anyio
ENVELOPE = Envelope(
    id="m1",
    kind=Kind.JOB,
    target="shop.work",
    payload={"card": "4111"},
    principal=OPERATOR,
    tenant="acme",
    trace=TraceContext(trace_id="a" * 32, span_id="b" * 16),
    at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def lines_of_a_failure(crew: Crew, out: io.StringIO, body: bytes) -> list[dict[str, Any]]:
    async def fail(entry: Claimed, fence: int) -> None:
        raise RuntimeError("no paper")

    await crew.bench.queue.add([entry("m1", body=body)])
    worker = crew.worker(fail, backgrounds={"work": Background(attempts=2, backoff_s=0)})
    worker.start()
    await rest(worker)
    found = [msgspec.json.decode(line) for line in out.getvalue().splitlines()]
    return [line for line in found if line["logger"] == "tenfold.queue"]


async def test_each_line_leads_to_the_request_that_set_the_work_off(
    crew: Crew, out: io.StringIO
) -> None:
    lines = await lines_of_a_failure(crew, out, msgspec.msgpack.encode(ENVELOPE))
    assert [line["level"] for line in lines] == ["warning", "error", "error"]
    for line in lines:
        assert line["trace_id"] == "a" * 32
        assert (line["tenant"], line["module"]) == ("acme", "shop")
        assert line["target"] == "shop.work"
    assert "4111" not in out.getvalue()


async def test_a_dead_letter_is_named_as_the_command_line_takes_it(
    crew: Crew, out: io.StringIO
) -> None:
    lines = await lines_of_a_failure(crew, out, msgspec.msgpack.encode(ENVELOPE))
    assert lines[-1]["event"] == (
        "shop.work is a dead letter: entry shop:1 after attempt 2. RuntimeError: no "
        "paper. Its lane goes on. See `tenfold queue show shop:1`, then `retry` or "
        "`discard` it."
    )


async def test_an_entry_whose_body_cannot_be_read_is_told_by_its_target(
    crew: Crew, out: io.StringIO
) -> None:
    lines = await lines_of_a_failure(crew, out, b"\xc1")
    assert len(lines) == 3
    for line in lines:
        assert (line["module"], line["target"]) == ("shop", "shop.work")
        assert "trace_id" not in line
