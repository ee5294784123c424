"""What a handler leaves running, what it answers wrongly, and what fails after its commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, final

import msgspec
import pytest
from sqlalchemy import Column, Integer, Table, bindparam, func, select

from tenfold import Contract, Database, Event, Struct, command, keyed, publish, query
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import (
    AwaitInsideUnitOfWorkError,
    HandlerFaultError,
    InvalidResultError,
    OutOfUnitOfWorkError,
    TenfoldError,
)
from tenfold.path.entry import Incoming
from tenfold.ports.unit import current_message
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.tables.columns import metadata, tenant


class Made(Event, key="id"):
    """A thing was made."""

    id: int


class Thing(Struct):
    """A thing; there is none below zero."""

    id: Annotated[int, msgspec.Meta(ge=0)]


class Strays(Contract, Protocol):
    """Operations that misbehave."""

    @command(who="anyone")
    async def make(self, id: int, stray: str = "") -> None:
        """Make a thing and leave a task behind."""
        ...

    @command(who="anyone", created="read", settled_by=[Made])
    async def make_read_wrongly(self, id: int) -> Thing:
        """Make a thing whose reading fails."""
        ...

    @command(who="anyone")
    async def answer_below_zero(self) -> Thing:
        """Answer with what the contract does not allow."""
        ...

    @command(who="anyone")
    async def leave_the_process(self) -> None:
        """Try to end the product."""
        ...

    @query(who="anyone")
    async def read(self, id: int) -> Thing:
        """Fails."""
        ...

    @query(who="anyone")
    async def count(self) -> int:
        """How many things there are."""
        ...


TABLES = metadata()
THINGS = Table("things", TABLES, tenant(), Column("id", Integer, primary_key=True))
PUT = THINGS.insert().values(id=bindparam("id"))
COUNT = select(func.count()).select_from(THINGS)


@final
class StraysModule(Strays):
    """Misbehaves as it is asked."""

    metadata = TABLES
    db: Database
    stray: ClassVar[asyncio.Task[None] | None] = None
    go: ClassVar[asyncio.Event]
    decisions: ClassVar[list[bool]] = []

    async def make(self, id: int, stray: str = "") -> None:
        if stray:
            type(self).go = asyncio.Event()
            type(self).stray = asyncio.create_task(self._stray(stray))
            await asyncio.sleep(0)
        await self.db.execute(PUT, id=id)

    async def _stray(self, what: str) -> None:
        await self.go.wait()
        if what == "publish":
            publish(Made(id=99))
        if what == "buffer":
            self.db.buffer(PUT, id=99)
        if what == "execute":
            await self.db.execute(PUT, id=99)

    async def make_read_wrongly(self, id: int) -> Thing:
        await self.db.execute(PUT, id=id)
        publish(Made(id=id))
        return Thing(id=id)

    async def answer_below_zero(self) -> Thing:
        await self.db.execute(PUT, id=1)
        return Thing(id=-1)

    async def leave_the_process(self) -> None:
        await self.db.execute(PUT, id=1)
        raise SystemExit(3)

    async def read(self, id: int) -> Thing:
        self.decisions.append(current_message().decision)
        raise ZeroDivisionError("asked to fail")

    async def count(self) -> int:
        return int(await self.db.value(COUNT))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    product = Product(
        name="strays",
        root=tmp_path,
        modules={"strays": StraysModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(),
    )
    made = Host(product, data_dir=tmp_path, create_tables=True)
    await made.start()
    yield made
    await made.stop()


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["publish", "buffer", "execute"])
async def test_a_task_that_outlives_its_unit_is_told_that_it_is_too_late(
    host: Host, what: str
) -> None:
    strays = host.proxy(Strays)
    await strays.make(1, what)
    assert StraysModule.stray is not None
    StraysModule.go.set()
    with pytest.raises((OutOfUnitOfWorkError, AwaitInsideUnitOfWorkError)):
        await StraysModule.stray
    assert await strays.count() == 1


@pytest.mark.anyio
async def test_a_keyed_answer_that_could_not_be_read_again_leaves_nothing(host: Host) -> None:
    strays = keyed(host.proxy(Strays), "k")
    for _ in range(2):
        with pytest.raises(InvalidResultError):
            await strays.answer_below_zero()
    assert await strays.count() == 0


@pytest.mark.anyio
async def test_a_handler_cannot_end_the_product(host: Host) -> None:
    strays = host.proxy(Strays)
    with pytest.raises(HandlerFaultError):
        await strays.leave_the_process()
    assert await strays.count() == 0


@pytest.mark.anyio
async def test_an_outcome_that_cannot_be_read_does_not_hide_that_the_command_is_done(
    host: Host,
) -> None:
    spec = host.operations["strays.make_read_wrongly"]
    arguments: Any = spec.arguments(id=7)
    incoming = Incoming(operation=spec, arguments=arguments, principal=OPERATOR, wait_s=5.0)
    StraysModule.decisions.clear()
    reply = await host.entry.call(incoming)
    assert reply.value == Thing(id=7)
    assert not reply.settled
    # A replica may not have heard of the end that was waited for: the primary is asked.
    assert StraysModule.decisions == [True]
    with pytest.raises(TenfoldError):
        await host.proxy(Strays).read(7)
