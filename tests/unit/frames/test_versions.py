"""Caller and called are code of two versions: what each knows, and what becomes of calls."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from tenfold import Contract, Outcome, command, query
from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.errors import InvalidArgumentsError, UnknownOperationError
from tenfold.edges.frames import FrameServer
from tenfold.path.entry import Incoming, Reply
from tenfold.ports.peers import Outgoing

pytestmark = pytest.mark.anyio
TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class Older(Contract, Protocol):
    """As it was."""

    @command(who="internal")
    async def order(self, lot: str) -> str:
        """Who took it."""
        ...

    @query(who="internal")
    async def ask(self) -> str:
        """Who answers."""
        ...


class Newer(Contract, Protocol):
    """As it is."""

    @command(who="internal")
    async def order(self, lot: str, note: str = "", tags: list[str] = []) -> str:  # noqa: B006
        """Who took it."""
        ...

    @query(who="internal")
    async def ask(self) -> str:
        """Who answers."""
        ...

    @query(who="internal")
    async def count(self) -> str:
        """Who counted."""
        ...


OLD, NEW = (read_contract(each).operations for each in (Older, Newer))


class Process:
    def __init__(self, name: str, path: Path, operations: dict[str, Any]) -> None:
        self.name, self.path = name, path
        self.seen: list[Any] = []
        known = {f"mill.{each}": spec for each, spec in operations.items()}
        self.server = FrameServer("test", self, known, process=name)

    async def call(self, incoming: Incoming) -> Reply:
        self.seen.append(incoming.arguments)
        return Reply(value=self.name, trace=TRACE)


class Fleet:
    """An older process and a newer one, and a caller of the newer code."""

    def __init__(self, folder: Path) -> None:
        self.old = Process("old", folder / "old", OLD)
        self.new = Process("new", folder / "new", NEW)
        places = {each.name: partial(connect, each.path) for each in (self.old, self.new)}
        self.remote = RemoteService("mill", Fixed(places, links=1))

    async def call(self, name: str, **arguments: Any) -> Any:
        spec = NEW[name]
        outgoing = Outgoing(
            operation=spec, arguments=spec.arguments(**arguments), module="mill", timeout_s=5.0
        )
        return (await self.remote.call(outgoing)).value

    async def known(self, count: int) -> None:
        """Wait until so many processes are."""
        await self.call("ask")
        async with asyncio.timeout(10):
            while sum(self.remote.statistics().endpoints.values()) != count:
                await asyncio.sleep(0.001)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        made = Fleet(Path(folder))
        await made.old.server.start(made.old.path)
        yield made
        await made.remote.close()
        for process in (made.old, made.new):
            await process.server.stop(drain_s=1)


async def test_what_only_newer_processes_have_is_asked_of_those(fleet: Fleet) -> None:
    await fleet.new.server.start(fleet.new.path)
    await fleet.known(2)
    answers = await asyncio.gather(*(fleet.call("count") for _ in range(40)))
    assert set(answers) == {"new"}
    answers = await asyncio.gather(*(fleet.call("order", lot="a", note="n") for _ in range(40)))
    assert set(answers) == {"new"}
    answers = await asyncio.gather(*(fleet.call("ask") for _ in range(40)))
    assert set(answers) == {"old", "new"}


async def test_an_older_process_is_called_without_what_says_nothing(fleet: Fleet) -> None:
    assert await fleet.call("order", lot="a") == "old"
    assert [(each.lot, hasattr(each, "note")) for each in fleet.old.seen] == [("a", False)]


@pytest.mark.parametrize("more", [{"note": "n"}, {"tags": ["t"]}])
async def test_what_says_something_is_not_left_out(fleet: Fleet, more: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentsError, match=next(iter(more))) as raised:
        await fleet.call("order", lot="a", **more)
    assert raised.value.outcome is Outcome.NOT_DONE
    assert fleet.old.seen == []


async def test_what_no_process_has_is_told(fleet: Fleet) -> None:
    with pytest.raises(UnknownOperationError, match=r"no operation 'mill\.count'") as raised:
        await fleet.call("count")
    assert raised.value.outcome is Outcome.NOT_DONE
    # As soon as one has it, it is asked.
    await fleet.new.server.start(fleet.new.path)
    await fleet.known(2)
    assert await fleet.call("count") == "new"


async def test_who_says_nothing_of_its_operations_is_asked_for_all(fleet: Fleet) -> None:
    hello = fleet.old.server.hello
    silent = type(hello)(hello.version, hello.product, hello.contracts, hello.process)
    fleet.old.server.hello = silent
    await fleet.new.server.start(fleet.new.path)
    await fleet.known(2)
    answers = await asyncio.gather(
        *(fleet.call("count") for _ in range(40)), return_exceptions=True
    )
    assert {type(each) for each in answers} == {str, UnknownOperationError}
