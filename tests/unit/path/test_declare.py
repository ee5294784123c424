"""Background work as a module declares it, and as it is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.errors import ContractError, InvalidArgumentsError, OutOfUnitOfWorkError
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Event
from tenfold.path.background import read_background
from tenfold.path.declare import (
    Background,
    BoundJob,
    EnqueueOptions,
    Job,
    Projection,
    job,
    schedule,
    subscribe,
)

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Happened(Event, key="id"):
    id: UUID


class Worker:
    @subscribe
    async def plain(self, event: Happened) -> None:
        """With the defaults."""

    @subscribe(attempts=2, timeout_s=5.0, backoff_s=0.0, start="now")
    async def tuned(self, event: Happened) -> None:
        """With its own numbers."""

    @job(attempts=3, priority=-5)
    async def send(self, to: str, copies: int = 1) -> None:
        """Send it."""

    @schedule("*/5 * * * *", attempts=1)
    async def sweep(self) -> None:
        """Every five minutes."""

    async def ordinary(self) -> None:
        """Not background work."""


def test_handlers_are_read_in_order_with_what_they_declare() -> None:
    plain, tuned, send, sweep = read_background(Worker)
    assert [h.name for h in (plain, tuned, send, sweep)] == ["plain", "tuned", "send", "sweep"]
    assert [h.kind for h in (plain, tuned, send, sweep)] == [
        Kind.EVENT,
        Kind.EVENT,
        Kind.JOB,
        Kind.SCHEDULE,
    ]
    assert (plain.payload, plain.start, plain.background) == (Happened, "beginning", Background())
    assert (tuned.start, tuned.background.attempts, tuned.background.timeout_s) == ("now", 2, 5.0)
    assert (send.background.priority, sweep.cron) == (-5, "*/5 * * * *")
    assert sweep.payload.__struct_fields__ == ()


def test_a_jobs_arguments_are_a_struct_with_its_defaults() -> None:
    payload = read_background(Worker)[2].payload
    assert msgspec.structs.asdict(msgspec.convert({"to": "a"}, payload)) == {"to": "a", "copies": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"to": 1}, payload)


def test_handlers_of_a_projection_have_its_name_before_theirs() -> None:
    class History(Projection):
        name = "history"
        tables = ()

        @subscribe
        async def happened(self, event: Happened) -> None: ...

    (handler,) = read_background(History, "history")
    assert (handler.name, handler.projection) == ("history.happened", "history")


async def _no_event(self: Any) -> None: ...
async def _two(self: Any, event: Happened, more: int) -> None: ...
async def _not_an_event(self: Any, event: int) -> None: ...
async def _untyped(self: Any, event) -> None: ...  # type: ignore[no-untyped-def]
async def _star(self: Any, *names: str) -> None: ...
async def _by_name(self: Any, *, name: str) -> None: ...


def owner(member: Any, base: type = object) -> type:
    return type("Odd", (base,), {"method": member})


@pytest.mark.parametrize("method", [_no_event, _two, _not_an_event, _untyped])
def test_a_subscription_takes_one_event(method: Callable[..., Any]) -> None:
    with pytest.raises(ContractError, match=r"Odd\.method subscribes to nothing\. Give it exactly"):
        read_background(owner(subscribe(method)))


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (_star, r"The job Odd\.method takes \*names\. Name every argument"),
        (_untyped, r"The job Odd\.method\(event\) has no annotation"),
        (_by_name, r"The job Odd\.method takes name by keyword only.*Drop the `\*`"),
    ],
)
def test_a_job_names_its_arguments_and_their_types(method: Callable[..., Any], told: str) -> None:
    with pytest.raises(ContractError, match=told):
        read_background(owner(job()(method)))


@pytest.mark.parametrize("declare", [job(), schedule("* * * * *")])
def test_a_projection_has_neither_jobs_nor_schedules(declare: Callable[..., Any]) -> None:
    async def method(self: Any) -> None: ...

    with pytest.raises(ContractError, match="depends on events alone"):
        read_background(owner(declare(method), Projection), "odd")


BOUNDS: dict[str, tuple[float, float]] = {
    "attempts": (1, 100),
    "timeout_s": (1e-6, 3600),
    "backoff_s": (0, 3600),
    "priority": (-100, 100),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_the_numbers_of_background_work_are_bounded(name: str) -> None:
    least, most = BOUNDS[name]
    whole = name in ("attempts", "priority")
    for fine in (least, most):
        assert getattr(Background(**{name: fine}), name) == fine  # type: ignore[arg-type]
    for wrong in (least - 1, most + 1, *(() if whole else (float("nan"), float("inf")))):
        with pytest.raises(ContractError, match=f"{name}={wrong} is outside"):
            Background(**{name: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "declare", [job, subscribe, lambda **numbers: schedule("* * * * *", **numbers)]
)
def test_they_are_refused_where_they_are_declared(declare: Callable[..., Any]) -> None:
    with pytest.raises(ContractError, match="attempts=0 is outside 1 to 100"):
        declare(attempts=0)


@given(st.floats(0.001, 1e6))
def test_a_delay_counts_from_now(delay_s: float) -> None:
    assert EnqueueOptions(delay_s=delay_s).due(NOW) == NOW + timedelta(seconds=delay_s)


def test_without_a_delay_it_is_due_at_once() -> None:
    assert EnqueueOptions().due(NOW) is None
    assert EnqueueOptions(delay_s=-5).due(NOW) is None


def test_a_moment_is_meant_wherever_its_clock_is() -> None:
    there = datetime(2026, 11, 20, 15, tzinfo=timezone(timedelta(hours=2)))
    due = EnqueueOptions(run_at=there, delay_s=7).due(NOW)
    assert due == datetime(2026, 11, 20, 13, tzinfo=UTC)
    assert due is not None
    assert due.tzinfo is UTC


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(InvalidArgumentsError, match="has no time zone") as caught:
        EnqueueOptions(run_at=datetime(2026, 11, 20)).due(NOW)  # noqa: DTZ001
    assert caught.value.field == "run_at"


@pytest.mark.parametrize("delay_s", [float("nan"), float("inf"), 1e12])
def test_a_delay_that_no_date_can_hold_is_refused(delay_s: float) -> None:
    with pytest.raises(InvalidArgumentsError, match="delay_s=") as caught:
        EnqueueOptions(delay_s=delay_s).due(NOW)
    assert caught.value.field == "delay_s"


def test_a_job_is_bound_on_an_instance_and_itself_on_the_class() -> None:
    assert isinstance(Worker.send, Job)
    assert isinstance(Worker().send, BoundJob)
    assert (Worker.send.name, Worker.send.__doc__) == ("send", "Send it.")


def test_options_of_a_job_leave_the_job_as_it_was() -> None:
    worker = Worker()
    assert worker.send.with_(delay_s=3.0) is not worker.send
    assert worker.send._options == EnqueueOptions()


@pytest.mark.anyio
async def test_a_job_may_be_run_here_and_now() -> None:
    seen: list[Any] = []

    class Here:
        @job()
        async def note(self, text: str) -> None:
            seen.append((self, text))

    here = Here()
    await here.note.run("a")
    assert seen == [(here, "a")]


def test_outside_of_a_message_nothing_is_enqueued() -> None:
    with pytest.raises(OutOfUnitOfWorkError, match="outside the handling of a message"):
        Worker().send.enqueue("a")
