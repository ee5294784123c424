"""Asking a supervisor, and processes that cannot begin."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.runtimes import restarts
from tenfold.runtimes.links import Assignment
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.log_pump import LogPump
from tenfold.runtimes.restarts import (
    NotSupervisedError,
    ProcessState,
    RestartFailedError,
    RestartServer,
    ask_restart,
    ask_split,
    ask_states,
)
from tenfold.runtimes.roles import Role
from tenfold.runtimes.spawning import Child, ProcessNotStartedError, Spawning
from tenfold.runtimes.splits.asked import SplitAsked, SplitRolledBackError

pytestmark = pytest.mark.anyio
STATE = ProcessState(name="web-1", role=Role.WEB, state="ready", pid=7, restarts=0)


async def never(*_: object) -> None:
    raise AssertionError("it was not asked for")


async def asked(folder: Path, restart: Callable[[Callable[[str], None]], object]) -> list[str]:
    async def carry(tell: Callable[[str], None]) -> None:
        restart(tell)

    lock = DataLock.acquire(folder, "tenfold run")
    server = RestartServer(carry, never, lambda: [STATE])
    await server.start(Path(lock.holder.control).parent)
    told: list[str] = []
    try:
        assert await ask_states(folder) == [STATE]
        await ask_restart(folder, told.append)
    finally:
        await server.stop()
        lock.release()
    return told


async def test_each_step_is_told(tmp_path: Path) -> None:
    assert await asked(tmp_path, lambda tell: [tell("one"), tell("two")]) == ["one", "two"]


async def test_a_restart_that_fails_says_why(tmp_path: Path) -> None:
    def fail(error: Exception) -> Callable[[Callable[[str], None]], object]:
        def restart(_: Callable[[str], None]) -> None:
            raise error

        return restart

    with pytest.raises(RestartFailedError, match=r"No luck\. Processes that were not replaced"):
        await asked(tmp_path, fail(TenfoldError("No luck.")))
    with pytest.raises(UserMistakeError, match="A mistake"):
        await asked(tmp_path, fail(UserMistakeError("A mistake.")))
    with pytest.raises(RestartFailedError, match="It raised ZeroDivisionError"):
        await asked(tmp_path, fail(ZeroDivisionError()))


@asynccontextmanager
async def splitting(
    folder: Path, split: Callable[[SplitAsked, Callable[[str], None]], Awaitable[None]]
) -> AsyncIterator[None]:
    lock = DataLock.acquire(folder, "tenfold run")
    server = RestartServer(never, split, lambda: [STATE])
    await server.start(Path(lock.holder.control).parent)
    try:
        yield
    finally:
        await server.stop()
        lock.release()


async def test_a_split_is_asked_for_with_all_that_was_said(tmp_path: Path) -> None:
    asked = SplitAsked(module="pay", service="cash", replicas=2, workers=1, step_s=3, back=True)
    seen: list[SplitAsked] = []

    async def split(heard: SplitAsked, tell: Callable[[str], None]) -> None:
        seen.append(heard)
        tell("pay-1 is new.")

    told: list[str] = []
    async with splitting(tmp_path, split):
        await ask_split(tmp_path, asked, told.append)
    assert (seen, told) == ([asked], ["pay-1 is new."])


@pytest.mark.parametrize("error", [SplitRolledBackError("No luck."), UserMistakeError("A typo.")])
async def test_how_a_split_ends_is_told_as_what_it_is(tmp_path: Path, error: TenfoldError) -> None:
    async def split(*_: object) -> None:
        raise error

    async with splitting(tmp_path, split):
        with pytest.raises(type(error), match=str(error)):
            await ask_split(tmp_path, SplitAsked(module="pay"), print)


async def test_a_split_that_fails_otherwise_is_not_told_as_a_restart(tmp_path: Path) -> None:
    async def split(*_: object) -> None:
        raise ProcessNotStartedError("No luck.")

    async with splitting(tmp_path, split):
        with pytest.raises(RestartFailedError, match=r"The split did not end.*No luck\."):
            await ask_split(tmp_path, SplitAsked(module="pay"), print)


async def test_a_supervisor_that_does_not_know_what_is_asked_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Older(msgspec.Struct):
        ask: Literal["restart", "states"]

    older = msgspec.json.Decoder(Older).decode
    monkeypatch.setattr(restarts, "_decode_question", older)
    async with splitting(tmp_path, never):
        with pytest.raises(RestartFailedError, match="of an older version than this command"):
            await ask_split(tmp_path, SplitAsked(module="pay"), print)


async def test_whoever_leaves_has_the_split_taken_back(tmp_path: Path) -> None:
    begun, back = asyncio.Event(), asyncio.Event()

    async def split(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            back.set()

    async with splitting(tmp_path, split):
        asking = asyncio.create_task(ask_split(tmp_path, SplitAsked(module="pay"), print))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])
        await asyncio.wait_for(back.wait(), 10)


async def test_a_supervisor_that_stops_gives_the_split_up(tmp_path: Path) -> None:
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def split(*_: object) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    async with splitting(tmp_path, split):
        asking = asyncio.create_task(ask_split(tmp_path, SplitAsked(module="pay"), print))
        await begun.wait()
    assert given_up.is_set()
    with pytest.raises(RestartFailedError, match="being stopped"):
        await asking


async def test_nobody_is_asked_where_nothing_is_supervised(tmp_path: Path) -> None:
    with pytest.raises(NotSupervisedError, match="No product runs on the data"):
        await ask_states(tmp_path)
    lock = DataLock.acquire(tmp_path, "tenfold run")
    lock.say("serving")
    try:
        with pytest.raises(NotSupervisedError, match="supervises no processes at this moment"):
            await ask_states(tmp_path)
    finally:
        lock.release()


async def test_a_process_that_ends_at_once_is_not_started(tmp_path: Path) -> None:
    out = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    pump = LogPump(out)
    spawning = Spawning(
        pump=pump,
        environ=os.environ,
        start_timeout_s=30,
        stop_timeout_s=5,
        command=(sys.executable, "-c", "import sys; print('bye'); sys.exit(3)"),
    )
    assignment = Assignment(name="web-1", file="x", topology="growth")
    child = Child(spawning, assignment)
    loop = asyncio.get_running_loop()
    # uvloop keeps SIGCHLD to itself, and a supervisor runs on the standard loop.
    watching = loop.create_task(_reap(child))
    with pytest.raises(ProcessNotStartedError, match="web-1 ended with exit code 3 before it was"):
        await child.begun()
    await watching
    pump.close()
    os.close(out)
    assert (tmp_path / "log").read_text() == "web-1 | bye\n"


async def _reap(child: Child) -> None:
    while not child.reap():
        await asyncio.sleep(0.01)
