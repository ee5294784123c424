"""A small product that the conformance suites exercise: a ledger, and an audit that follows it."""

# ruff: noqa: D102 -- what an operation does is said once, in its contract

from __future__ import annotations

import asyncio
from typing import ClassVar, final

from sqlalchemy import CheckConstraint, Column, Integer, Table, Text, bindparam, func, select

from tenfold import Database, Projection, job, principal, publish, schedule, subscribe
from tenfold.tables.columns import metadata, tenant
from tenfold.tables.upsert import incoming, upsert
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import (
    Deposited,
    Ledger,
    Metered,
    NeverDeclared,
    NotEnough,
)

__all__ = ["AuditModule", "LedgerModule", "Totals"]

LEDGER_TABLES = metadata()
ACCOUNTS = Table(
    "accounts",
    LEDGER_TABLES,
    tenant(),
    Column("account", Text, primary_key=True),
    Column("balance", Integer, nullable=False),
    CheckConstraint("balance >= 0", name="not_negative"),
)
BALANCE = select(ACCOUNTS.c.balance).where(ACCOUNTS.c.account == bindparam("account"))
ADD = upsert(
    ACCOUNTS,
    on=[ACCOUNTS.c.account],
    set={ACCOUNTS.c.balance: ACCOUNTS.c.balance + incoming(ACCOUNTS.c.balance)},
).values(account=bindparam("account"), balance=bindparam("amount"))
SET = (
    ACCOUNTS.update()
    .where(ACCOUNTS.c.account == bindparam("account"))
    .values(balance=bindparam("new_balance"))
)
SUBTRACT = (
    ACCOUNTS.update()
    .where(ACCOUNTS.c.account == bindparam("account"))
    .values(balance=ACCOUNTS.c.balance - bindparam("amount"))
)

AUDIT_TABLES = metadata()
NOTES = Table(
    "notes",
    AUDIT_TABLES,
    tenant(),
    Column("number", Integer, primary_key=True),
    Column("account", Text, nullable=False),
    Column("text", Text, nullable=False),
)
TOTALS = Table(
    "totals",
    AUDIT_TABLES,
    tenant(),
    Column("account", Text, primary_key=True),
    Column("total", Integer, nullable=False),
)
LAST_NOTE = select(func.coalesce(func.max(NOTES.c.number), 0))
ADD_NOTE = NOTES.insert().values(
    number=bindparam("number"), account=bindparam("account"), text=bindparam("text")
)
NOTES_OF = (
    select(NOTES.c.text).where(NOTES.c.account == bindparam("account")).order_by(NOTES.c.number)
)
TOTAL = select(TOTALS.c.total).where(TOTALS.c.account == bindparam("account"))
ADD_TOTAL = upsert(
    TOTALS,
    on=[TOTALS.c.account],
    set={TOTALS.c.total: TOTALS.c.total + incoming(TOTALS.c.total)},
).values(account=bindparam("account"), total=bindparam("amount"))


@final
class LedgerModule(Ledger):
    """Keeps the accounts."""

    metadata = LEDGER_TABLES
    borrowed: ClassVar[Database | None] = None
    db: Database
    audit: Audit

    async def deposit(self, account: str, amount: int, then: str = "") -> int:
        await self.db.execute(ADD, account=account, amount=amount)
        publish(Deposited(account=account, amount=amount))
        await self._misbehave(then, account)
        return int(await self.db.value(BALANCE, account=account))

    async def _misbehave(self, then: str, account: str) -> None:
        if then == "refuse undeclared":
            raise NeverDeclared
        if then == "fail":
            raise ZeroDivisionError("asked to fail")
        if then == "borrow" and self.borrowed is not None:
            await self.borrowed.value(TOTAL, account=account)
        if then == "call":
            await self.audit.notes(account)
        if then == "sleep":
            await asyncio.sleep(0.01)
        if then == "yield":
            await asyncio.sleep(0)
        if then == "gather":
            reading = self.db.value(BALANCE, account=account)
            try:
                await asyncio.gather(reading)
            finally:
                reading.close()  # refused before it became a task, so nobody else ends it
        if then.startswith("swallow"):
            try:
                await self._misbehave(then.removeprefix("swallow "), account)
            except Exception:
                pass

    async def meter(self, account: str, amounts: list[int]) -> None:
        for amount in amounts:
            publish(Metered(account=account, amount=amount))

    async def withdraw(self, account: str, amount: int) -> int:
        held = int(await self.db.value(BALANCE, account=account) or 0)
        if held < amount:
            raise NotEnough(balance=held)
        await self.db.execute(SET, account=account, new_balance=held - amount)
        return held - amount

    async def withdraw_by_constraint(self, account: str, amount: int, buffered: bool) -> None:
        refuse = {"accounts_not_negative": NotEnough(balance=-1)}
        if buffered:
            self.db.buffer(SUBTRACT, account=account, amount=amount, refuse=refuse)
        else:
            await self.db.execute(SUBTRACT, account=account, amount=amount, refuse=refuse)

    async def deposit_buffered(self, account: str, amount: int) -> int:
        self.db.buffer(ADD, account=account, amount=amount)
        return int(await self.db.value(BALANCE, account=account))

    async def increment(self, account: str) -> int:
        held = int(await self.db.value(BALANCE, account=account) or 0)
        await self.db.execute(SET, account=account, new_balance=held + 1)
        return held + 1

    async def take_one_of_two(self, mine: str, other: str) -> bool:
        if not await self.db.value(BALANCE, account=other):
            return False
        await self.db.execute(SET, account=mine, new_balance=0)
        return True

    async def settle(self, account: str) -> int:
        return await self.audit.note(account, "settled")

    async def settle_too(self, account: str) -> int:
        return await self.audit.note(account, "settled")

    async def settle_slowly(self, account: str) -> int:
        number = await self.audit.note(account, "settled")
        await asyncio.sleep(30)
        return number

    async def start_marking(self, account: str) -> str:
        return self.mark_later.enqueue(account)

    async def settle_without_key(self, account: str) -> int:
        return await self.audit.note(account, "settled")

    async def start_job(self, account: str, text: str, unique: str | None = None) -> str:
        return self.note_later.with_(unique=unique).enqueue(account, text)

    async def only_auditors(self) -> None:
        return None

    async def balance(self, account: str) -> int:
        return int(await self.db.value(BALANCE, account=account) or 0)

    async def write_in_query(self, account: str) -> int:
        return await self.db.execute(ADD, account=account, amount=1)

    async def deposit_from_query(self, account: str) -> int:
        return await self.audit.note(account, "from a query")

    @job(attempts=3, backoff_s=0.01)
    async def note_later(self, account: str, text: str) -> None:
        """Write a note from a job, keyed by the job's own id."""
        await self.audit.note(account, text)
        if text == "fail":
            raise ZeroDivisionError("asked to fail")
        await self.db.execute(ADD, account=account, amount=100)

    @job(attempts=3, backoff_s=0.01)
    async def mark_later(self, account: str) -> None:
        """Run again, it leaves its first call out, since what that did is there."""
        if not await self.audit.notes(account):
            await self.audit.note(account, "first")
        await self.audit.mark(account)
        raise ZeroDivisionError("asked to fail")

    @subscribe
    async def echo_one(self, event: Deposited) -> None:
        """One of two subscribers that call the same command for the same event."""
        if event.amount == 777:
            await self.audit.note(event.account, "echo")

    @subscribe
    async def echo_two(self, event: Deposited) -> None:
        """The other of the two."""
        if event.amount == 777:
            await self.audit.note(event.account, "echo")

    @subscribe(batch=5, attempts=1, backoff_s=0.01)
    async def passed_on(self, events: list[Metered]) -> None:
        """What a handler of batches may not do: call a command."""
        if any(event.amount == 15 for event in events):
            await self.audit.note(events[0].account, "passed on")

    @schedule("0 3 * * *")
    async def interest(self) -> None:
        """Every night at three."""
        await self.db.execute(ADD, account="interest", amount=1)


@final
class Totals(Projection):
    """The sum of each account's deposits."""

    name = "totals"
    tables = (TOTALS,)
    db: Database

    @subscribe(attempts=2, backoff_s=0.01)
    async def deposited(self, event: Deposited) -> None:
        """Add one deposit."""
        if event.amount == 666:
            raise ZeroDivisionError("asked to fail")
        await self.db.execute(ADD_TOTAL, account=event.account, amount=event.amount)

    async def of(self, account: str) -> int:
        """One account's sum."""
        return int(await self.db.value(TOTAL, account=account) or 0)


@final
class AuditModule(Audit):
    """Notes what happened."""

    metadata = AUDIT_TABLES
    trouble: ClassVar[int] = 0
    db: Database
    totals: Totals

    async def note(self, account: str, text: str) -> int:
        number = int(await self.db.value(LAST_NOTE)) + 1
        await self.db.execute(ADD_NOTE, number=number, account=account, text=text)
        return number

    async def mark(self, account: str) -> int:
        return await self.note(account, "marked")

    async def notes(self, account: str) -> list[str]:
        return [row.text for row in await self.db.all(NOTES_OF, account=account)]

    async def total(self, account: str) -> int:
        return await self.totals.of(account)

    @subscribe(attempts=2, backoff_s=0.01)
    async def deposited(self, event: Deposited) -> None:
        """Note a deposit."""
        if event.amount == 667:
            raise ZeroDivisionError("asked to fail")
        number = int(await self.db.value(LAST_NOTE)) + 1
        text = f"deposited {event.amount}"
        if event.amount == 778:
            text += f" by {principal().id}"
        await self.db.execute(ADD_NOTE, number=number, account=event.account, text=text)

    @subscribe(batch=5, attempts=2, backoff_s=0.01)
    async def metered(self, events: list[Metered]) -> None:
        """Note a batch in one line; 13 always fails, and 14 fails as often as `trouble` says."""
        number = int(await self.db.value(LAST_NOTE)) + 1
        text = ",".join(str(event.amount) for event in events)
        account = events[0].account
        await self.db.execute(ADD_NOTE, number=number, account=account, text=text)
        amounts = {event.amount for event in events}
        if 13 in amounts:
            raise ZeroDivisionError("asked to fail")
        if 14 in amounts and AuditModule.trouble:
            AuditModule.trouble -= 1
            raise ZeroDivisionError("asked to fail for a while")
