"""Units of work that share a commit: what becomes of some does not touch the others."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from tenfold.adapters.sqlite import writer
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    Outcome,
    StoreUnavailableError,
    TenfoldError,
)
from tenfold.testing.probe.ledger_contract import NotEnough
from tests.faults.probe import Probe

pytestmark = pytest.mark.anyio
BIG = "x" * 20_000


async def gather(*calls: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*calls, return_exceptions=True)


async def group(probe: Probe, calls: list[Any]) -> list[Any]:
    """Run calls so that they meet in one commit."""
    with probe.hold():
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(20):
            await asyncio.sleep(0)
    return await gather(*tasks)


async def test_of_64_in_a_group_each_has_its_own_end(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        calls = []
        for number in range(64):
            account = f"a{number}"
            if number % 4 == 1:
                calls.append(probe.ledger.deposit(account, 1, "fail"))
            elif number % 4 == 2:
                calls.append(probe.ledger.withdraw(account, 1))
            elif number % 4 == 3:
                calls.append(probe.ledger.deposit(account, 1, "sleep"))
            else:
                calls.append(probe.ledger.deposit(account, number + 1))
        ends = await group(probe, calls)
        for number, end in enumerate(ends):
            match number % 4:
                case 0:
                    assert end == number + 1
                case 1:
                    assert isinstance(end, HandlerFaultError)
                case 2:
                    assert isinstance(end, NotEnough)
                case _:
                    assert isinstance(end, TenfoldError)
                    assert end.outcome is Outcome.NOT_DONE
        rows = probe.committed("SELECT account, balance FROM accounts")
        assert sorted(rows) == sorted((f"a{n}", n + 1) for n in range(0, 64, 4))
        assert probe.committed("SELECT count(*) FROM tenfold_outbox") == [(16,)]


async def test_a_full_disk_fails_the_one_that_hit_it_and_spares_the_group(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        for number in range(20):
            await probe.ledger.deposit(f"a{number}", 100)
        await probe.host.idle()
        await probe.most_pages(0)
        calls: list[Any] = [probe.ledger.increment(f"a{n}") for n in range(20)]
        calls.insert(10, probe.ledger.start_job("a0", BIG))
        calls.insert(15, probe.ledger.start_job("a0", BIG))
        ends = await group(probe, calls)
        refused = [end for end in ends if isinstance(end, StoreUnavailableError)]
        assert len(refused) == 2
        assert all(end.outcome is Outcome.NOT_DONE for end in refused)
        assert "disk is full" in str(refused[0])
        assert [end for end in ends if not isinstance(end, BaseException)] == [101] * 20
        assert probe.committed("SELECT DISTINCT balance FROM accounts") == [(101,)]
        assert probe.committed(
            "SELECT count(*) FROM tenfold_queue WHERE handler = 'note_later'"
        ) == [(0,)]
        assert probe.host.healthy

        await probe.most_pages(None)
        assert await probe.ledger.start_job("a0", BIG)
        assert await probe.ledger.increment("a0") == 102


async def test_a_handler_whose_time_is_up_inside_leaves_nothing(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        with probe.hold():
            late = asyncio.ensure_future(probe.call("deposit", "late", 1, timeout_s=0.1))
            fine = asyncio.ensure_future(probe.call("deposit", "fine", 1))
            with pytest.raises(DeadlineExceededError) as told:
                async with asyncio.timeout(10):
                    await late
            assert told.value.outcome is Outcome.NOT_DONE
        assert (await fine).value == 1
        assert probe.committed("SELECT account FROM accounts") == [("fine",)]


async def test_a_caller_who_leaves_takes_only_its_own_unit_along(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        with probe.hold():
            calls = [asyncio.ensure_future(probe.call("deposit", f"a{n}", 1)) for n in range(10)]
            for _ in range(20):
                await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            await gather(*calls[::2])
        ends = await gather(*calls[1::2])
        assert [end.value for end in ends] == [1] * 5
        kept = probe.committed("SELECT account FROM accounts ORDER BY 1")
        assert kept == [(f"a{n}",) for n in range(1, 10, 2)]


async def test_a_caller_who_leaves_after_the_last_statement_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with Probe(tmp_path) as probe:
        flushing, go = threading.Event(), threading.Event()
        flush = probe.store._flush

        def slow(*args: Any) -> int:
            flushing.set()
            assert go.wait(10)
            return flush(*args)

        probe.store._flush = slow  # type: ignore[method-assign]
        call = asyncio.ensure_future(probe.call("deposit", "gone", 1))
        assert await asyncio.to_thread(flushing.wait, 10)
        call.cancel()
        await gather(call)
        probe.store._flush = flush  # type: ignore[method-assign]
        go.set()
        assert await probe.ledger.deposit("stays", 1) == 1
        assert probe.committed("SELECT account FROM accounts") == [("stays",)]


class _Faulty:
    """The writer's connection, with one statement that fails when it is told to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._failing: tuple[str, BaseException, bool] | None = None
        self._spared = 0

    def fail(self, sql: str, error: BaseException, *, done_all_the_same: bool = False) -> None:
        """Fail at a statement, but not in the transaction of the hold, which comes first."""
        self._failing = (sql, error, done_all_the_same)
        self._spared = 1

    def execute(self, sql: str, *values: Any) -> Any:
        if self._failing is None or self._failing[0] != sql:
            return self._connection.execute(sql, *values)
        if self._spared:
            self._spared -= 1
            return self._connection.execute(sql, *values)
        (_, error, done_all_the_same), self._failing = self._failing, None
        if done_all_the_same:
            self._connection.execute(sql, *values)
        raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> dict[str, _Faulty]:
    """The writers' connections by module."""
    opened: dict[str, _Faulty] = {}
    real = writer.open_writer

    def open_writer(file: Path) -> Any:
        opened[file.stem] = _Faulty(real(file))
        return opened[file.stem]

    monkeypatch.setattr(writer, "open_writer", open_writer)
    return opened


def _error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("from the test")
    error.sqlite_errorname = name
    return error


async def test_after_a_failed_sync_nothing_more_is_written(
    tmp_path: Path, faulty: dict[str, _Faulty]
) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 1)
        await probe.host.idle()
        failed = _error("SQLITE_IOERR_FSYNC")
        faulty["ledger"].fail("COMMIT", failed, done_all_the_same=True)
        told = await group(probe, [probe.ledger.increment("a"), probe.ledger.increment("a")])
        assert [end.outcome for end in told] == [Outcome.MAYBE_DONE] * 2
        assert not probe.host.healthy
        (after,) = await gather(probe.ledger.increment("a"))
        assert isinstance(after, StoreUnavailableError)
        assert after.outcome is Outcome.NOT_DONE
        assert await probe.ledger.balance("a") == 3


async def test_a_full_disk_at_the_commit_loses_the_group_and_says_so(
    tmp_path: Path, faulty: dict[str, _Faulty]
) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 1)
        await probe.host.idle()
        faulty["ledger"].fail("COMMIT", _error("SQLITE_FULL"))
        told = await group(probe, [probe.ledger.increment("a"), probe.ledger.increment("a")])
        assert [end.outcome for end in told] == [Outcome.NOT_DONE] * 2
        assert probe.host.healthy
        assert await probe.ledger.increment("a") == 2


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "COMMIT", "SAVEPOINT unit"])
async def test_a_fault_of_the_writer_itself_is_told_to_everyone(
    tmp_path: Path, faulty: dict[str, _Faulty], statement: str
) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 1)
        await probe.host.idle()
        faulty["ledger"].fail(statement, MemoryError())
        told = await group(probe, [probe.ledger.increment("a"), probe.ledger.increment("a")])
        assert any(isinstance(end, StoreUnavailableError) for end in told), told
        assert all(isinstance(end, StoreUnavailableError | int | HandlerFaultError) for end in told)
        (after,) = await gather(probe.ledger.increment("a"))
        assert isinstance(after, int | StoreUnavailableError)
        assert probe.host.healthy == isinstance(after, int)
