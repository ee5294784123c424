"""The generations of a projection: their tables, and what goes with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from tenfold.adapters.sqlite.generations import SqliteGenerations
from tenfold.adapters.sqlite.schema import create_platform_tables
from tenfold.ports.projections import GenerationState
from tenfold.tables.columns import Uuid, metadata, tenant
from tenfold.tables.errors import GenerationError, TableDeclarationError
from tenfold.tables.search import SearchIndex

_T = TypeVar("_T")


class OneConnection:
    """A session on one connection, each piece of work in a savepoint."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        self.connection.execute("SAVEPOINT work")
        try:
            result = work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK TO work")
            self.connection.execute("RELEASE work")
            raise
        self.connection.execute("RELEASE work")
        return result

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        return work(self.connection)


def history(*more: Column[Any]) -> Table:
    table = Table(
        "history",
        metadata(),
        tenant(),
        Column("id", Uuid(), primary_key=True),
        Column("name", Text),
        *more,
        UniqueConstraint("tenant", "name"),
        Index(None, "tenant", "name", "id"),
    )
    SearchIndex("history_search", table.c.name)
    return table


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create_platform_tables(connection)
    yield connection
    connection.close()


@pytest.fixture
def generations(connection: sqlite3.Connection) -> SqliteGenerations:
    made = SqliteGenerations(OneConnection(connection), {"past": [history()]})
    assert made.ensure(connection) == []
    return made


def names(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'history%'")
    return {row[0] for row in rows}


def leave_traces(connection: sqlite3.Connection, handler: str, generation: int) -> None:
    connection.execute(
        "INSERT INTO tenfold_queue (waits, priority, lane, run_at, handler, generation, tenant,"
        " message_id, body) VALUES (1, 0, 'lane', 0, ?, ?, 'main', 'm', x'')",
        (handler, generation),
    )
    connection.execute(
        "INSERT INTO tenfold_positions VALUES (?, ?, 'orders', 7)", (handler, generation)
    )
    connection.execute(
        "INSERT INTO tenfold_inbox (message_id, handler, generation, at) VALUES ('m', ?, ?, 0)",
        (handler, generation),
    )


def traces(connection: sqlite3.Connection) -> set[tuple[str, int]]:
    found: set[tuple[str, int]] = set()
    for table in ("tenfold_queue", "tenfold_positions", "tenfold_inbox"):
        found |= set(connection.execute(f"SELECT handler, generation FROM {table}"))
    return found


@pytest.mark.anyio
async def test_the_first_start_makes_generation_one_with_its_indexes(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    assert await generations.state() == {"past": GenerationState(active=1)}
    assert {"history__1", "history_search__1"} <= names(connection)
    indexes = {row[1] for row in connection.execute("PRAGMA index_list(history__1)")}
    assert "history_tenant_name_id_index__1" in indexes
    assert generations.ensure(connection) == []


@pytest.mark.anyio
async def test_a_rebuild_has_tables_of_its_own_and_the_old_ones_are_dropped_after_the_swap(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    assert await generations.begin("past") == 2
    assert await generations.state() == {"past": GenerationState(active=1, building=2)}
    assert {"history__1", "history__2"} <= names(connection)
    leave_traces(connection, "past.placed", 1)
    leave_traces(connection, "past.placed", 2)
    leave_traces(connection, "pastime.placed", 1)
    await generations.swap("past", 2)
    assert await generations.state() == {"past": GenerationState(active=2)}
    assert "history__1" in names(connection)
    await generations.drop("past", 1)
    assert not {name for name in names(connection) if "__1" in name}
    assert traces(connection) == {("past.placed", 2), ("pastime.placed", 1)}


@pytest.mark.anyio
async def test_an_abandoned_generation_leaves_nothing_and_its_number_is_not_used_again(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    await generations.begin("past")
    leave_traces(connection, "past.placed", 2)
    await generations.drop("past", 2)
    assert await generations.state() == {"past": GenerationState(active=1)}
    assert not {name for name in names(connection) if "__2" in name}
    assert traces(connection) == set()
    assert await generations.begin("past") == 3


@pytest.mark.anyio
async def test_begun_again_the_unfinished_generation_is_dropped(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    await generations.begin("past")
    assert await generations.begin("past") == 3
    assert not {name for name in names(connection) if "__2" in name}


@pytest.mark.anyio
async def test_only_the_one_being_built_is_swapped_in_and_the_one_that_answers_stays(
    generations: SqliteGenerations,
) -> None:
    with pytest.raises(GenerationError, match="not the one being built"):
        await generations.swap("past", 1)
    with pytest.raises(GenerationError, match="answers, so it cannot be dropped"):
        await generations.drop("past", 1)
    with pytest.raises(GenerationError, match="This module has: past"):
        await generations.begin("future")


@pytest.mark.anyio
async def test_what_was_swapped_out_and_not_dropped_is_dropped_at_the_start(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    leave_traces(connection, "past.placed", 1)
    await generations.swap("past", await generations.begin("past"))
    assert {"history__1", "history__2"} <= names(connection)
    assert generations.ensure(connection) == []
    assert not {name for name in names(connection) if "__1" in name}
    assert traces(connection) == set()
    await generations.drop("past", 1)


@pytest.mark.anyio
async def test_a_build_of_another_shape_is_dropped_at_the_start_and_reported(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    assert await generations.begin("past") == 2
    changed = SqliteGenerations(
        OneConnection(connection), {"past": [history(Column("size", Integer))]}
    )
    assert changed.ensure(connection) == ["past"]
    assert await changed.state() == {"past": GenerationState(active=1)}
    assert not {name for name in names(connection) if "__2" in name}
    assert await changed.begin("past") == 3
    assert changed.ensure(connection) == ["past"]
    assert await changed.state() == {"past": GenerationState(active=1, building=3)}
    assert generations.ensure(connection) == ["past"]
    assert await generations.state() == {"past": GenerationState(active=1)}


@pytest.mark.anyio
async def test_a_changed_shape_is_reported_until_it_was_rebuilt(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    changed = SqliteGenerations(
        OneConnection(connection), {"past": [history(Column("size", Integer))]}
    )
    assert changed.ensure(connection) == ["past"]
    await changed.swap("past", await changed.begin("past"))
    assert changed.ensure(connection) == []
    assert generations.ensure(connection) == ["past"]


@pytest.mark.anyio
async def test_entries_parked_behind_a_dropped_one_are_woken(
    connection: sqlite3.Connection, generations: SqliteGenerations
) -> None:
    building = await generations.begin("past")
    leave_traces(connection, "past.placed", 1)
    leave_traces(connection, "past.placed", building)
    connection.execute("UPDATE tenfold_queue SET waits = 3 WHERE generation = ?", (building,))
    await generations.swap("past", building)
    await generations.drop("past", 1)
    assert connection.execute("SELECT waits FROM tenfold_queue").fetchall() == [(1,)]


def test_a_projection_without_tables_or_with_a_reference_is_refused(
    connection: sqlite3.Connection,
) -> None:
    session = OneConnection(connection)
    with pytest.raises(TableDeclarationError, match="declares no tables"):
        SqliteGenerations(session, {"past": []})
    collection = metadata()
    Table("parents", collection, Column("id", Integer, primary_key=True))
    child = Table("children", collection, Column("id", ForeignKey("parents.id"), primary_key=True))
    with pytest.raises(TableDeclarationError, match="foreign key"):
        SqliteGenerations(session, {"past": [child]})
