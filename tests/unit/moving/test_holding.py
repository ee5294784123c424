"""How the writes of files are held, and how long for."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.runtimes.moving.errors import PauseTooLongError
from tenfold.runtimes.moving.source import SourceFile, held


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "a.db", tmp_path / "b.db"]
    for file in made:
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE t (v)")
    return made


def writes(file: Path) -> bool:
    with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
    return True


@pytest.mark.anyio
async def test_nobody_writes_while_they_are_held_and_everybody_reads(files: list[Path]) -> None:
    async with held(files, 1.0):
        assert [writes(file) for file in files] == [False, False]
        with closing(sqlite3.connect(files[0])) as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert [writes(file) for file in files] == [True, True]


@pytest.mark.anyio
async def test_a_writer_that_does_not_give_way_is_told_and_nobody_is_held(
    files: list[Path],
) -> None:
    with closing(sqlite3.connect(files[1], isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(PauseTooLongError, match=r"writer of b\.db did not give way"):
            async with held(files, 0.05):
                pytest.fail("It was not held.")
        assert writes(files[0])


def test_a_snapshot_does_not_see_what_is_written_after_it(files: list[Path]) -> None:
    source = SourceFile("a", files[0])
    with closing(sqlite3.connect(files[0], isolation_level=None)) as writer:
        with source.snapshot():
            writer.execute("INSERT INTO t VALUES (1)")
            assert source.connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert source.connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    source.close()
