"""Queues that push back, and the door as the path's calls pass through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.contract import Contract
from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import (
    DeadlineExceededError,
    Outcome,
    OverloadedError,
    RateLimitedError,
    StoreUnavailableError,
    UserMistakeError,
)
from tenfold.contracts.operations import Kind, command, query
from tenfold.contracts.structs import Event
from tenfold.path.backlogs import EASED, Backlogs, decide_full
from tenfold.path.entry import Incoming
from tenfold.path.limits import LimitSettings
from tenfold.path.shedding import SheddingSettings
from tenfold.ports.clock import RandomIds, SystemClock
from tenfold.ports.records import Backlog
from tenfold.runtimes.doors import Doorkeeper, DoorSettings, fed_queues, open_door
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology


@given(full=st.booleans(), due=st.integers(0, 1000), most=st.integers(1, 500))
def test_a_full_queue_stays_full_until_it_has_eased(full: bool, due: int, most: int) -> None:
    now = decide_full(full, due, most)
    if due >= most:
        assert now
    elif due <= most * EASED:
        assert not now
    else:
        assert now == full


@pytest.mark.anyio
async def test_a_full_queue_refuses_those_who_feed_it_until_it_has_eased() -> None:
    due = 0
    broken = False

    async def read() -> Backlog:
        if broken:
            raise StoreUnavailableError("away")
        return Backlog(due=due, later=0, dead=0, oldest_due_at=None)

    feeds = {"orders": frozenset({"orders", "mail"}), "catalog": frozenset({"catalog"})}
    backlogs = Backlogs({"mail": 100}, feeds, {"mail": read})

    async def answers(now: int) -> tuple[bool, bool]:
        nonlocal due
        due = now
        await backlogs.look()
        return (
            backlogs.refusal("orders", "orders.place") is not None,
            backlogs.refusal("catalog", "catalog.add") is not None,
        )

    assert await answers(99) == (False, False)
    assert await answers(100) == (True, False)
    refused = backlogs.refusal("orders", "orders.place")
    assert refused is not None
    assert refused.outcome is Outcome.NOT_DONE
    assert refused.retry_after_s >= 1
    assert await answers(90) == (True, False)
    broken = True
    assert await answers(0) == (True, False)  # not known to have eased
    broken = False
    assert await answers(80) == (False, False)


class Sent(Event, key="number"):
    number: int


class Post(Contract, Protocol):
    events = (Sent,)

    @command("POST /v1/letters", who="anyone")
    async def send(self) -> None: ...

    @query("GET /v1/letters", who="anyone", priority="critical")
    async def letters(self) -> int: ...

    @command(who="internal")
    async def wait(self) -> None: ...


@final
class PostModule(Post):
    async def send(self) -> None: ...

    async def letters(self) -> int:
        return 7

    async def wait(self) -> None:
        await asyncio.Event().wait()


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(
        Product(
            name="post",
            root=tmp_path,
            modules={"post": PostModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        ),
        data_dir=tmp_path,
        create_tables=True,
    )
    await made.start()
    yield made
    await made.stop()


def keeper(host: Host, **given: object) -> Doorkeeper:
    settings = DoorSettings(
        **{  # type: ignore[arg-type]
            "product": "post",
            "shedding": SheddingSettings(),
            "limits": {},
            "max_backlog": {},
            "processes": 1,
            **given,
        }
    )
    feeds = fed_queues(host._shapes, {})
    made = open_door(settings, host.operations, host.modules, feeds, SystemClock(), RandomIds())
    assert host._calls is not None
    host._calls._door = made.door
    return made


def incoming(host: Host, target: str, **more: object) -> Incoming:
    spec = host.operations[target]
    operation = host._calls._operations[target]  # type: ignore[union-attr]
    return Incoming(
        operation=spec,
        arguments=operation.bind((), {}),
        principal=Principal(id="ann"),
        **more,  # type: ignore[arg-type]
    )


def test_a_command_feeds_its_own_queue_and_its_subscribers() -> None:
    hears = SimpleNamespace(kind=Kind.EVENT, payload=Sent)
    works = SimpleNamespace(kind=Kind.JOB, payload=Sent)
    shapes: Any = {
        "post": SimpleNamespace(handlers=[works]),
        "log": SimpleNamespace(handlers=[hears]),
    }
    feeds = fed_queues(shapes, {Sent: "post"})
    assert feeds == {"post": frozenset({"post", "log"}), "log": frozenset({"log"})}


@pytest.mark.anyio
async def test_a_command_that_feeds_a_full_queue_fails_fast_and_a_query_does_not(
    host: Host,
) -> None:
    made = keeper(host, max_backlog={"post": 10})
    assert made.door.backlogs is not None
    made.door.backlogs._full["post"] = 12
    with pytest.raises(OverloadedError, match="12 entries wait in the queue of 'post'"):
        await host.entry.call(incoming(host, "post.send"))
    assert (await host.entry.call(incoming(host, "post.letters"))).value == 7
    made.start()
    until = asyncio.get_running_loop().time() + 20
    while made.door.backlogs.full:  # the look finds it empty
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.01)
    await host.entry.call(incoming(host, "post.send"))
    await made.stop()


@pytest.mark.anyio
async def test_a_call_that_is_limited_says_where_it_stands_and_then_is_refused(host: Host) -> None:
    limit = LimitSettings(rate="2/hour", operations=("post.letters",))
    keeper(host, limits={"few": limit})
    replies = [await host.entry.call(incoming(host, "post.letters")) for _ in range(2)]
    assert [reply.allowances[0].left for reply in replies] == [1, 0]
    with pytest.raises(RateLimitedError):
        await host.entry.call(incoming(host, "post.letters"))
    inside = incoming(host, "post.letters", internal=True)
    assert (await host.entry.call(inside)).value == 7  # the product's own calls are not limited


@pytest.mark.anyio
async def test_a_full_process_refuses_and_whoever_leaves_makes_room(host: Host) -> None:
    made = keeper(host, shedding=SheddingSettings(first=1, least=1, most=1))
    shedder = made.door.shedder
    assert shedder is not None
    one = shedder.take("main")
    with pytest.raises(OverloadedError):
        await host.entry.call(incoming(host, "post.send"))
    # What is critical may take as much again, and what the process itself calls is not asked.
    assert (await host.entry.call(incoming(host, "post.letters"))).value == 7
    await host.entry.call(incoming(host, "post.send", internal=True))
    one.leave()
    assert shedder.counts.present == 0
    await host.entry.call(incoming(host, "post.send"))


@pytest.mark.anyio
async def test_what_has_waited_past_its_deadline_is_dropped_before_its_work(host: Host) -> None:
    made = keeper(host)
    shedder = made.door.shedder
    assert shedder is not None
    arrival = shedder.take("main")
    await asyncio.sleep(0.02)
    late = incoming(host, "post.send", arrival=arrival, timeout_s=0.01)
    with pytest.raises(DeadlineExceededError) as caught:
        await host.entry.call(late)
    assert caught.value.outcome is Outcome.NOT_DONE
    arrival.leave()  # whoever made it ends it
    assert shedder.counts.present == 0


@pytest.mark.anyio
async def test_a_backlog_of_a_module_that_is_none_is_told(host: Host) -> None:
    with pytest.raises(UserMistakeError, match=r"max_backlog names 'lag'.*It has post"):
        keeper(host, max_backlog={"lag": 10})
