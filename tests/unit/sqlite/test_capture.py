"""Which rows are written while somebody copies a file."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from tenfold.adapters.sqlite import connection, writer
from tenfold.adapters.sqlite.capture import Capture
from tenfold.adapters.sqlite.writer import Task, Writer
from tenfold.contracts.errors import StoreUnavailableError

TABLES = {"items": ["tenant", "id"], "notes": ["key"]}


class Written:
    """A session on a writing thread of its own."""

    def __init__(self, file: Path) -> None:
        self.writer = Writer(file, "module", lambda _: None)
        self.writer.start()

    async def write(self, work: Any) -> Any:
        task = Task(work)
        self.writer.submit(task)
        return await task.future

    async def read(self, work: Any) -> Any:
        raise NotImplementedError

    async def run(self, *texts: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for text in texts:
                connection.execute(text)

        await self.write(work)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "module.db"
    with sqlite3.connect(file) as connection:
        connection.execute(
            'CREATE TABLE items (tenant TEXT, id BLOB, v, PRIMARY KEY ("tenant", id))'
        )
        connection.execute("CREATE TABLE notes (key TEXT PRIMARY KEY, v) WITHOUT ROWID")
        connection.execute("CREATE TABLE others (id INTEGER PRIMARY KEY)")
    connection.close()
    return file


@pytest.fixture
def session(file: Path) -> Any:
    made = Written(file)
    yield made
    made.writer.close()


def schema(file: Path) -> list[Any]:
    connection = sqlite3.connect(file)
    try:
        return connection.execute("SELECT * FROM sqlite_master").fetchall()
    finally:
        connection.close()


@pytest.mark.anyio
async def test_every_way_to_write_a_row_is_seen_and_no_other(session: Any, file: Path) -> None:
    before = schema(file)
    capture = Capture(session, TABLES)
    await session.run("INSERT INTO items VALUES ('main', x'00', 1)")
    await capture.begin()
    await session.run(
        "INSERT INTO items VALUES ('main', x'01', 1)",
        "UPDATE items SET id = x'02' WHERE id = x'00'",
        "INSERT INTO notes VALUES ('a', 1) ON CONFLICT (key) DO UPDATE SET v = 2",
        "INSERT INTO notes VALUES ('a', 1) ON CONFLICT (key) DO UPDATE SET v = 2",
        "INSERT INTO others VALUES (1)",
    )
    assert await capture.take(held=False) == {
        ("items", "main", b"\x00"),
        ("items", "main", b"\x01"),
        ("items", "main", b"\x02"),
        ("notes", "a"),
    }
    await session.run("DELETE FROM notes")
    assert await capture.take(held=False) == {("notes", "a")}
    assert await capture.take(held=True) == set()
    assert schema(file) == before
    await capture.end()
    await session.run("DELETE FROM items")
    assert await capture.take(held=True) == set()


@pytest.mark.anyio
async def test_what_is_told_has_been_committed(session: Any, file: Path) -> None:
    capture = Capture(session, TABLES)
    await capture.begin()
    written, on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('slow', 1)")
        loop.call_soon_threadsafe(written.set)
        on.wait(10)

    writing = asyncio.ensure_future(session.write(slow))
    await written.wait()
    taking = asyncio.ensure_future(capture.take(held=False))
    await asyncio.sleep(0)
    assert not taking.done()
    on.set()
    assert await taking == {("notes", "slow")}
    reader = sqlite3.connect(file)
    assert reader.execute("SELECT key FROM notes").fetchall() == [("slow",)]
    reader.close()
    await writing


@pytest.mark.anyio
async def test_a_row_of_a_rolled_back_unit_costs_a_second_look_only(session: Any) -> None:
    capture = Capture(session, TABLES)
    await capture.begin()

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('gone', 1)")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await session.write(fails)
    assert await capture.take(held=False) <= {("notes", "gone")}


@pytest.mark.anyio
async def test_who_waited_for_the_lock_when_writes_were_refused_writes_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = StoreUnavailableError("It has moved.")

    class Late:
        """A connection whose lock is got only after writes were refused."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, text: str, *values: Any) -> Any:
            if text == "BEGIN IMMEDIATE" and not made.writer.broken:
                made.writer.refuse(refusal)
            return self._connection.execute(text, *values)

    monkeypatch.setattr(writer, "open_writer", lambda path: Late(connection.open_writer(path)))
    made = Written(file)
    with pytest.raises(StoreUnavailableError, match="It has moved"):
        await made.run("INSERT INTO notes VALUES ('late', 1)")
    made.writer.refuse(None)
    with pytest.raises(StoreUnavailableError, match="It has moved"):
        await made.run("INSERT INTO notes VALUES ('late', 1)")
    made.writer.close()
    reader = sqlite3.connect(file)
    assert reader.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    reader.close()
