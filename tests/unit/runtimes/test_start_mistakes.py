"""Mistakes of an author that are told at start, with the way to mend them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Protocol, final

import pytest
from sqlalchemy import Column, Integer, Table, Text, select

from tenfold import Contract, Database, query, subscribe
from tenfold.contracts.errors import ContractError, HandlerFaultError
from tenfold.runtimes.host import Host
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.topology import Product, Topology
from tenfold.tables.columns import metadata, tenant


class Menu(Contract, Protocol):
    """What there is to eat."""

    @query(who="anyone")
    async def choose_dish(self, guest: str, course: int) -> int:
        """Choose."""
        ...


TABLES = metadata()
DISHES = Table(
    "dishes", TABLES, tenant(), Column("id", Integer, primary_key=True), Column("note", Text)
)


@final
class MenuModule(Menu):
    """Reads its table."""

    metadata = TABLES
    db: Database

    async def choose_dish(self, guest: str, course: int) -> int:
        return len(await self.db.all(select(DISHES.c.id)))


class Misspelt(Menu):
    async def chose_dish(self, guest: str, course: int) -> int:
        return 0


class Turned(Menu):
    async def choose_dish(self, course: int, guest: str) -> int:  # type: ignore[override]
        return 0


class Unread(Menu):
    async def choose_dish(self, guest: str, course: int) -> int:
        return 0

    @subscribe
    async def feed(self, event: NeverWritten) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Subscribe to an event whose name is misspelt."""


def product(folder: Path, cls: type) -> Product:
    return Product(
        name="menu",
        root=folder,
        modules={"menu": cls},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(),
    )


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Misspelt, "has no choose_dish, which Menu promises. Did you mean chose_dish"),
        (Turned, r"takes \['course', 'guest'\], and Menu promises \['guest', 'course'\]"),
        (Unread, "An annotation of Unread.feed cannot be read: name 'NeverWritten'"),
    ],
)
def test_it_is_told_when_the_module_is_read(cls: Any, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        read_module("menu", cls)


@pytest.mark.anyio
async def test_a_column_that_no_migration_makes_is_told_at_start(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "menu.db")
    connection.execute("CREATE TABLE dishes (tenant TEXT, id INTEGER, PRIMARY KEY (tenant, id))")
    connection.commit()
    connection.close()
    host = Host(product(tmp_path, MenuModule), data_dir=tmp_path, create_tables=True)
    with pytest.raises(ContractError, match=r"declares dishes\.note, and no migration makes it"):
        await host.start()


@pytest.mark.anyio
async def test_a_statement_that_does_not_fit_the_database_is_a_fault_and_not_worth_a_retry(
    tmp_path: Path,
) -> None:
    host = Host(product(tmp_path, MenuModule), data_dir=tmp_path, create_tables=True)
    await host.start()
    try:
        other = sqlite3.connect(tmp_path / "menu.db")
        other.execute("DROP TABLE dishes")
        other.commit()
        other.close()
        with pytest.raises(HandlerFaultError, match="no such table"):
            await host.proxy(Menu).choose_dish("ada", 1)
    finally:
        await host.stop()
