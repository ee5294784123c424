"""A till, whose handlers call a bank, some of them in ways that are not safe to repeat."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol
from uuid import uuid4

from sqlalchemy import Column, Integer, Table, Text, bindparam

from tenfold import (
    Contract,
    Database,
    Event,
    call_key,
    command,
    job,
    keyed,
    new_id,
    publish,
    query,
    schedule,
    subscribe,
)
from tenfold.tables.columns import metadata, tenant
from tests.unit.twice.bank import Bank, Paid, TooOften

TILL_TABLES = metadata()
DONE = Table("done", TILL_TABLES, tenant(), Column("name", Text, primary_key=True))
ADD_DONE = DONE.insert().values(name=bindparam("name"))
ALL_DONE = DONE.select()


TALLY = Table(
    "tally",
    TILL_TABLES,
    tenant(),
    Column("account", Text, primary_key=True),
    Column("times", Integer, nullable=False),
)
ADD_TALLY = TALLY.insert().values(account=bindparam("account"), times=bindparam("times"))
MORE = TALLY.update().where(TALLY.c.account == bindparam("named")).values(times=TALLY.c.times + 1)


class Till(Contract, Protocol):
    """Starts what is asked of it by name."""

    @command(who="anyone")
    async def start(self, name: str) -> None:
        """Enqueue a job."""
        ...

    @command(who="anyone")
    async def announce(self, account: str) -> None:
        """Publish an event."""
        ...

    @command(who="anyone", key="required")
    async def settle(self, note: str = "") -> int:
        """Pay; with a new note each time, if none is given."""
        ...

    @command(who="anyone", raises=[TooOften])
    async def refuse(self) -> None:
        """Refuse."""
        ...

    @command(who="anyone")
    async def fail_twice(self) -> int:
        """Fail with the first two deliveries."""
        ...

    @query(who="anyone")
    async def tallied(self) -> dict[str, int]:
        """How many payments of each account were heard of."""
        ...

    @query(who="anyone")
    async def look(self) -> list[str]:
        """What was done."""
        ...


class Announced(Event):
    account: str


class TillModule(Till):
    """Its jobs are called by their names; the first ones are safe to repeat."""

    metadata = TILL_TABLES
    db: Database
    bank: Bank
    turned: bool = False
    tries: int = 0
    batches: ClassVar[list[list[str]]] = []
    """The accounts of each batch that was handled, as often as it was."""

    async def start(self, name: str) -> None:
        getattr(self, name).enqueue()

    async def announce(self, account: str) -> None:
        publish(Announced(account=account))

    async def settle(self, note: str = "") -> int:
        return await self.bank.pay("settle", note or str(new_id()))

    async def refuse(self) -> None:
        await self.db.execute(ADD_DONE, name="refused")
        raise TooOften

    async def fail_twice(self) -> int:
        self.tries += 1
        if self.tries < 3:
            raise ZeroDivisionError
        return self.tries

    async def tallied(self) -> dict[str, int]:
        return {row.account: row.times for row in await self.db.all(TALLY.select())}

    @subscribe(batch=10)
    async def tally(self, events: list[Paid]) -> None:
        """Counts, and would count twice what it is given twice."""
        TillModule.batches.append([event.account for event in events])
        for event in events:
            if not await self.db.execute(MORE, named=event.account):
                await self.db.execute(ADD_TALLY, account=event.account, times=1)

    async def look(self) -> list[str]:
        return [row.name for row in await self.db.all(ALL_DONE)]

    # --- Safe to repeat ------------------------------------------------------------------------

    @job(attempts=1)
    async def pays(self) -> None:
        """Calls, then commits."""
        await self.bank.pay("pays", call_key("note"))
        await self.db.execute(ADD_DONE, name="pays")

    @job(attempts=1)
    async def pays_many(self) -> None:
        """Calls at once, each under a key of its own."""
        accounts = await self.bank.accounts(["m1", "m2", "m3"])
        await asyncio.gather(*(keyed(self.bank, f"once {a}").pay(a) for a in accounts))

    @job(attempts=1)
    async def goes_on(self) -> None:
        """Leaves out what is done already, and takes a refusal for it."""
        if not await self.bank.paid("goes on"):
            await self.bank.pay("goes on")
        try:
            await keyed(self.bank, "at most once").pay("goes on 2", most=1)
        except TooOften:
            pass

    @job(attempts=3, backoff_s=0.001)
    async def fails_once(self) -> None:
        """Fails, and is tried again."""
        if not self.turned:
            self.turned = True
            raise ZeroDivisionError
        await self.db.execute(ADD_DONE, name="fails_once")

    @schedule("0 0 1 1 *")
    async def sweeps(self) -> None:
        """Does whatever is due, one at a time."""
        times = await self.bank.paid("sweeps")
        await keyed(self.bank, f"sweep {times}").pay("sweeps", str(times))

    # --- Not safe to repeat --------------------------------------------------------------------

    @job(attempts=1)
    async def new_arguments(self) -> None:
        await self.bank.pay("new arguments", str(new_id()))

    @job(attempts=1)
    async def new_key(self) -> None:
        await keyed(self.bank, str(uuid4())).pay("new key")

    @job(attempts=1)
    async def changes_places(self) -> None:
        self.turned = not self.turned
        for account in ("one", "two") if self.turned else ("two", "one"):
            await self.bank.pay(account)

    @job(attempts=1)
    async def commits_late(self) -> None:
        times = await self.bank.paid("commits late")
        if times > 1:
            await self.db.execute(ADD_DONE, name="commits late")
        else:
            await keyed(self.bank, f"late {times}").pay("commits late", str(times))

    @job(attempts=1)
    async def calls_more(self) -> None:
        times = await self.bank.paid("calls more")
        await keyed(self.bank, f"more {times}").pay("calls more", str(times))

    @job(attempts=1)
    async def fails_again(self) -> None:
        if await self.db.outside.all(ALL_DONE):
            raise LookupError("there is nothing to do")
        await self.db.execute(ADD_DONE, name="fails again")

    @subscribe
    async def announced(self, event: Announced) -> None:
        if event.account:
            await self.bank.pay(event.account, str(new_id()))
