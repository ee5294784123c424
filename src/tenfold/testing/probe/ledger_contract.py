"""The probe's ledger: operations that do one thing each, and misbehave on demand."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from tenfold import Contract, Event, Refusal, command, query

__all__ = ["Deposited", "Ledger", "Metered", "Name", "NeverDeclared", "NotEnough"]

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class Deposited(Event, key="account"):
    """An account's balance has grown."""

    account: str
    amount: int


class Metered(Event, key="account"):
    """Something was counted, of which there is much."""

    account: str
    amount: int


class NotEnough(Refusal, status=409):
    """The account holds less than that."""

    balance: int


class NeverDeclared(Refusal, status=409):
    """A refusal that no operation declares."""


class Ledger(Contract, Protocol):
    """Accounts with balances that never fall below zero."""

    @command("POST /deposits", who="anyone")
    async def deposit(self, account: Name, amount: int, then: str = "") -> int:
        """Add to a balance and return it; `then` says how to misbehave afterwards."""
        ...

    @command(who="internal")
    async def meter(self, account: Name, amounts: list[int]) -> None:
        """Publish an event for each amount, in their order."""
        ...

    @command("POST /withdrawals", who="anyone", raises=[NotEnough])
    async def withdraw(self, account: Name, amount: int) -> int:
        """Take from a balance; refused where it holds less."""
        ...

    @command(who="internal", raises=[NotEnough])
    async def withdraw_by_constraint(self, account: Name, amount: int, buffered: bool) -> None:
        """Take from a balance without looking: the table's own check refuses."""
        ...

    @command(who="internal")
    async def deposit_buffered(self, account: Name, amount: int) -> int:
        """Hand a deposit over as buffered, then read the balance."""
        ...

    @command(who="internal")
    async def increment(self, account: Name) -> int:
        """Read a balance, then write it back one higher."""
        ...

    @command(who="internal")
    async def take_one_of_two(self, mine: Name, other: Name) -> bool:
        """Empty `mine` only while `other` still has something: the write skew."""
        ...

    @command(who="internal", key="required")
    async def settle(self, account: Name) -> int:
        """A keyed command, which may call other modules' commands."""
        ...

    @command(who="internal", key="required")
    async def settle_too(self, account: Name) -> int:
        """Another keyed command, which calls the same command of the other module."""
        ...

    @command(who="internal", key="required", timeout_s=0.2)
    async def settle_slowly(self, account: Name) -> int:
        """A keyed command whose time is up after the command that it calls."""
        ...

    @command(who="internal")
    async def start_marking(self, account: Name) -> str:
        """Enqueue a job whose first call depends on what is there."""
        ...

    @command(who="internal")
    async def settle_without_key(self, account: Name) -> int:
        """A command without a key, which may not."""
        ...

    @command(who="internal")
    async def start_job(self, account: Name, text: str, unique: str | None = None) -> str:
        """Enqueue a job."""
        ...

    @command(who="auditor")
    async def only_auditors(self) -> None:
        """For those who have the permission."""
        ...

    @query("GET /balances/{account}", who="anyone")
    async def balance(self, account: Name) -> int:
        """What an account holds."""
        ...

    @query(who="internal")
    async def write_in_query(self, account: Name) -> int:
        """A query that tries to write."""
        ...

    @query(who="internal")
    async def deposit_from_query(self, account: Name) -> int:
        """A query that tries to call a command."""
        ...
