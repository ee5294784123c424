"""The queue on SQLite against a model, whatever two workers do in whatever order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tenfold.testing.queue_states import STATE_SETTINGS, QueueStates
from tests.conformance.sqlite_bench import SqliteBench

UNFINISHED = "SELECT id FROM tenfold_queue WHERE lane = ? AND (waits > 0 OR holds = 1)"


class StatesBench(SqliteBench):
    async def ids(self) -> list[int]:
        return [row[0] for row in self.session.connection.execute("SELECT id FROM tenfold_queue")]

    async def unfinished(self, lane: str) -> list[int]:
        return [row[0] for row in self.session.connection.execute(UNFINISHED, (lane,))]

    async def live_fences(self) -> set[int]:
        rows = self.session.connection.execute("SELECT fence FROM tenfold_claims")
        return {row[0] for row in rows}


class SqliteStates(QueueStates):
    async def open_bench(self) -> StatesBench:
        self.folder = tempfile.TemporaryDirectory()
        self.file_bench = StatesBench(Path(self.folder.name) / "module.db")
        self.file_bench.session.connection.execute("PRAGMA synchronous = OFF")  # not about power
        return self.file_bench

    async def close_bench(self) -> None:
        self.file_bench.close()
        self.folder.cleanup()


SqliteStates.TestCase.settings = STATE_SETTINGS
TestQueueStates = SqliteStates.TestCase
