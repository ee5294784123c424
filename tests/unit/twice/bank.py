"""A bank that others pay into, and that says how often each account has paid."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol, final

from sqlalchemy import Column, Integer, Table, Text, bindparam, func, select

from tenfold import (
    Contract,
    Database,
    Event,
    Projection,
    Refusal,
    command,
    publish,
    query,
    subscribe,
)
from tenfold.tables.columns import metadata, tenant

BANK_TABLES = metadata()
PAYMENTS = Table(
    "payments",
    BANK_TABLES,
    tenant(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("account", Text, nullable=False),
    Column("note", Text, nullable=False),
)
PAY = PAYMENTS.insert().values(
    number=bindparam("number"), account=bindparam("account"), note=bindparam("note")
)
COUNT = select(func.count()).select_from(PAYMENTS)
PAID = COUNT.where(PAYMENTS.c.account == bindparam("account"))


class TooOften(Refusal, status=409):
    """It was paid already."""


class Paid(Event, key="account"):
    account: str
    times: int


class Bank(Contract, Protocol):
    """Takes payments."""

    @command(who="internal", raises=[TooOften])
    async def pay(self, account: str, note: str = "", most: int = 100) -> int:
        """Pay; returns how often that account has paid."""
        ...

    @query(who="internal")
    async def paid(self, account: str) -> int:
        """How often an account has paid."""
        ...

    @query(who="internal")
    async def accounts(self, names: list[str]) -> list[str]:
        """The same names; notes which task asked."""
        ...


@final
class BankModule(Bank):
    metadata = BANK_TABLES
    db: Database
    payments: BankPayments
    seen: ClassVar[list[object]] = []
    """A mark for each time that a handler was called."""

    async def pay(self, account: str, note: str = "", most: int = 100) -> int:
        self.seen.append(("pay", account))
        times = int(await self.db.value(PAID, account=account))
        if times >= most:
            raise TooOften
        await self.db.execute(PAY, number=await self._next(), account=account, note=note)
        publish(Paid(account=account, times=times + 1))
        return times + 1

    async def _next(self) -> int:
        return int(await self.db.value(COUNT)) + 1

    async def paid(self, account: str) -> int:
        return int(await self.db.value(PAID, account=account))

    async def accounts(self, names: list[str]) -> list[str]:
        self.seen.append(asyncio.current_task())
        return names


COUNTED = Table(
    "counted",
    BANK_TABLES,
    tenant(),
    Column("account", Text, primary_key=True),
    Column("times", Integer, primary_key=True),
)
ADD_COUNTED = COUNTED.insert().values(account=bindparam("account"), times=bindparam("times"))


class BankPayments(Projection):
    """Every payment; fails where one is told of twice."""

    name = "payments"
    tables: ClassVar = (COUNTED,)
    db: Database

    @subscribe
    async def paid(self, event: Paid) -> None:
        await self.db.execute(ADD_COUNTED, account=event.account, times=event.times)
