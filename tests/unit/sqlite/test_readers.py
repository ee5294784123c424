"""The reading threads: the newest state, up to a deadline, and a clean end."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenfold.adapters.sqlite.connection import open_writer
from tenfold.adapters.sqlite.readers import ReaderPool
from tenfold.contracts.errors import DeadlineExceededError, Outcome, StoreUnavailableError

pytestmark = pytest.mark.anyio
FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def pool() -> Iterator[ReaderPool]:
    made = ReaderPool(threads=2)
    yield made
    made.close()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "m.db")
    connection.execute("CREATE TABLE t (n INTEGER)")
    yield connection
    connection.close()


def count(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT count(*) FROM t").fetchone()[0]
    return number


async def test_every_read_sees_what_was_committed_before_it(
    pool: ReaderPool, writer: sqlite3.Connection, tmp_path: Path
) -> None:
    for number in range(50):
        assert await pool.read(tmp_path / "m.db", "m", count) == number
        writer.execute("INSERT INTO t VALUES (?)", (number,))


@pytest.mark.parametrize("snapshot", [True, False])
async def test_the_statements_of_a_snapshot_see_one_state(
    pool: ReaderPool, writer: sqlite3.Connection, tmp_path: Path, snapshot: bool
) -> None:
    looked, written = threading.Event(), threading.Event()

    def twice(connection: sqlite3.Connection) -> tuple[int, int]:
        first = count(connection)
        looked.set()
        written.wait(5)
        return first, count(connection)

    reading = asyncio.create_task(pool.read(tmp_path / "m.db", "m", twice, snapshot=snapshot))
    await asyncio.to_thread(looked.wait, 5)
    writer.execute("INSERT INTO t VALUES (1)")
    written.set()
    assert await reading == ((0, 0) if snapshot else (0, 1))
    assert await pool.read(tmp_path / "m.db", "m", count, snapshot=True) == 1


async def test_a_long_read_is_interrupted_at_its_deadline_and_the_next_is_not(
    writer: sqlite3.Connection, tmp_path: Path
) -> None:
    pool = ReaderPool(threads=1)
    started = time.monotonic()
    with pytest.raises(DeadlineExceededError, match="was interrupted") as caught:
        await pool.read(
            tmp_path / "m.db",
            "m",
            lambda connection: connection.execute(FOR_EVER).fetchall(),
            deadline=started + 0.05,
        )
    assert 0.05 <= time.monotonic() - started < 2
    assert caught.value.outcome is Outcome.NOT_DONE
    assert await pool.read(tmp_path / "m.db", "m", count) == 0
    pool.close()


async def test_slow_reads_of_one_module_hold_up_neither_another_nor_the_platform(
    tmp_path: Path,
) -> None:
    for name in ("slow", "quick"):
        made = open_writer(tmp_path / f"{name}.db")
        made.execute("CREATE TABLE t (n INTEGER)")
        made.close()
    go = threading.Event()

    def slowly(connection: sqlite3.Connection) -> int:
        assert go.wait(10)
        return count(connection)

    pool = ReaderPool()
    slow = [asyncio.create_task(pool.read(tmp_path / "slow.db", "m", slowly)) for _ in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await pool.read(tmp_path / "quick.db", "m", count) == 0
        assert await pool.read(tmp_path / "slow.db", "m", count, snapshot=True) == 0
    go.set()
    assert await asyncio.gather(*slow) == [0] * 20
    pool.close()


async def test_a_reader_cannot_write(
    pool: ReaderPool, writer: sqlite3.Connection, tmp_path: Path
) -> None:
    with pytest.raises(StoreUnavailableError, match="SQLITE_READONLY"):
        await pool.read(
            tmp_path / "m.db", "m", lambda connection: connection.execute("DELETE FROM t")
        )


async def test_a_file_that_is_not_there_is_told(pool: ReaderPool, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="database of module 'm' failed"):
        await pool.read(tmp_path / "none.db", "m", count)
    assert not (tmp_path / "none.db").exists()


async def test_an_error_is_its_callers_and_the_thread_goes_on(
    writer: sqlite3.Connection, tmp_path: Path
) -> None:
    def fail(_: sqlite3.Connection) -> None:
        raise KeyError("mine")

    pool = ReaderPool(threads=1)
    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            await pool.read(tmp_path / "m.db", "m", fail, snapshot=True)
    assert await pool.read(tmp_path / "m.db", "m", count) == 0
    pool.close()


async def test_reads_that_were_handed_in_are_answered_before_it_closes(
    writer: sqlite3.Connection, tmp_path: Path
) -> None:
    pool = ReaderPool(threads=2)
    reads = [asyncio.create_task(pool.read(tmp_path / "m.db", "m", count)) for _ in range(100)]
    await asyncio.sleep(0)
    pool.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("tenfold-reader")]
    assert await asyncio.gather(*reads) == [0] * 100
