"""Asking a running supervisor: a rolling restart, a split, and which processes there are.

A Unix socket beside the control socket that only its owner may open, and a line
of JSON a message: one question, then any number of answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.runtimes.lock import holder_of
from tenfold.runtimes.roles import Role
from tenfold.runtimes.splits.asked import SplitAsked, SplitRolledBackError

__all__ = [
    "NotSupervisedError",
    "ProcessState",
    "RestartFailedError",
    "RestartServer",
    "ask_restart",
    "ask_split",
    "ask_states",
]

_SOCKET = "restart.sock"
_MOST = 65_536
_START_S = 60.0
_POLL_S = 0.05
_log = logging.getLogger("tenfold.supervisor")


class NotSupervisedError(TenfoldError):
    """There is no supervisor on these data that could be asked; nothing was done."""

    code = "run.not_supervised"


class RestartFailedError(TenfoldError):
    """A rolling restart, or a split, stopped half way; processes that were not replaced go on."""

    code = "run.restart_failed"


class ProcessState(Struct):
    """How one process does. `pid` is 0 where there is none at this moment."""

    name: str
    role: Role
    state: Literal["ready", "down"]
    pid: int
    restarts: int


class Question(Struct):
    """What is asked."""

    ask: Literal["restart", "states", "split"]
    split: SplitAsked | None = None


class Told(Struct, tag="told"):
    """A step was done."""

    text: str


class States(Struct, tag="states"):
    """Every process."""

    processes: list[ProcessState]


class Ended(Struct, tag="ended"):
    """It is done, or failed for this reason, which was a mistake of what was set up, or not.

    `code` is that of the error, if it was a foreseen one.
    """

    error: str = ""
    mistake: bool = False
    code: str = ""


_encode = msgspec.json.Encoder().encode
_decode_question = msgspec.json.Decoder(Question).decode
_decode_answer = msgspec.json.Decoder(Told | States | Ended).decode


class RestartServer:
    """The supervisor's end of the socket."""

    def __init__(
        self,
        restart: Callable[[Callable[[str], None]], Awaitable[None]],
        split: Callable[[SplitAsked, Callable[[str], None]], Awaitable[None]],
        states: Callable[[], list[ProcessState]],
    ) -> None:
        """Take who does what is asked; the first two are told where to tell each step."""
        self._restart = restart
        self._split = split
        self._states = states
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, folder: Path) -> None:
        """Listen in a folder, in place of a process that ended."""
        path = folder / _SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        self._path = path
        self._server = await asyncio.start_unix_server(self._answer, sock=listener, limit=_MOST)

    async def stop(self) -> None:
        """Close, and give up what is under way."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            question = _decode_question(await reader.readline())
            if question.ask == "states":
                _say(writer, States(processes=self._states()))
                _say(writer, Ended())
            elif question.ask == "restart":
                _say(writer, await self._carry(self._restart, writer, "rolling restart"))
            elif question.split is not None:
                work = partial(self._split, question.split)
                carried = asyncio.create_task(self._carry(work, writer, "split"))
                await _while_asked(reader, carried)
                _say(writer, await carried)
            await writer.drain()
        except asyncio.CancelledError:
            _say(writer, Ended(error="The product is being stopped."))
        except (OSError, ValueError, msgspec.DecodeError):
            pass  # whoever asked has gone, or asked nothing that is understood
        finally:
            self._answering.discard(task)
            writer.close()

    async def _carry(
        self,
        work: Callable[[Callable[[str], None]], Awaitable[None]],
        writer: asyncio.StreamWriter,
        what: str,
    ) -> Ended:
        try:
            await work(lambda text: _say(writer, Told(text=text)))
        except TenfoldError as error:
            _log.error("The %s failed: %s", what, error)
            mistake = isinstance(error, UserMistakeError)
            return Ended(error=str(error), mistake=mistake, code=error.code)
        except Exception as error:
            _log.exception("The %s failed by an unexpected %s.", what, type(error).__name__)
            return Ended(error=f"It raised {type(error).__name__}. The log has more.")
        return Ended()


async def _while_asked(reader: asyncio.StreamReader, carried: asyncio.Task[Ended]) -> None:
    """Wait for the end of what is carried, and give it up where whoever asked has gone."""
    gone = asyncio.create_task(reader.read(1))
    try:
        await asyncio.wait([gone, carried], return_when=asyncio.FIRST_COMPLETED)
        if not carried.done():
            carried.cancel()
            await asyncio.wait([carried])
    except asyncio.CancelledError:
        carried.cancel()
        await asyncio.wait([carried])
        raise
    finally:
        gone.cancel()


def _say(writer: asyncio.StreamWriter, answer: Told | States | Ended) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.write(_encode(answer) + b"\n")


async def ask_restart(data_dir: Path, tell: Callable[[str], None]) -> None:
    """Ask for a rolling restart and wait for its end.

    Args:
        tell: is told each step.
    Raises: NotSupervisedError, RestartFailedError; UserMistakeError where what is
        set up now cannot be started.
    """
    async for answer in _ask(data_dir, Question(ask="restart")):
        if isinstance(answer, Told):
            tell(answer.text)


async def ask_split(data_dir: Path, asked: SplitAsked, tell: Callable[[str], None]) -> None:
    """Ask for a split and wait for its end. Who gives up has it taken back.

    Args:
        tell: is told each step.
    Raises: NotSupervisedError, SplitRolledBackError; RestartFailedError where the supervisor
        ended; UserMistakeError where it cannot be.
    """
    async for answer in _ask(data_dir, Question(ask="split", split=asked)):
        if isinstance(answer, Told):
            tell(answer.text)


async def ask_states(data_dir: Path) -> list[ProcessState]:
    """Ask which processes there are. Raises: NotSupervisedError."""
    async for answer in _ask(data_dir, Question(ask="states")):
        if isinstance(answer, States):
            return answer.processes
    return []


async def _ask(data_dir: Path, question: Question) -> AsyncIterator[Told | States | Ended]:
    reader, writer = await _reach(data_dir)
    try:
        writer.write(_encode(question) + b"\n")
        while line := await reader.readline():
            answer = _decode_answer(line)
            if isinstance(answer, Ended):
                _raise(answer, question)
                return
            yield answer
        raise RestartFailedError(
            f"The supervisor gave no answer to the end of the {question.ask}. Look at its log: "
            "where it has ended, start it again; where it runs, it is of an older version than "
            "this command, and the product is to be stopped and started with the new one."
        )
    finally:
        writer.close()


async def _reach(data_dir: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the supervisor; one that is just starting is waited for."""
    until = asyncio.get_running_loop().time() + _START_S
    while True:
        holder = holder_of(data_dir)
        if holder is None:
            raise NotSupervisedError(
                f"No product runs on the data in {data_dir}. Nothing was done. Start it with "
                "`tenfold run`, or name its directory with --data or TENFOLD_DATA."
            )
        try:
            path = Path(holder.control).with_name(_SOCKET)
            return await asyncio.open_unix_connection(str(path), limit=_MOST)
        except OSError as error:
            if holder.state != "starting" or asyncio.get_running_loop().time() >= until:
                raise NotSupervisedError(
                    f"Process {holder.pid} (`{holder.command}`, {holder.state}) holds the data in "
                    f"{data_dir}, and supervises no processes at this moment. Nothing was done. A "
                    "product on SQLite is one process, which is stopped and started again."
                ) from error
        # Another process's progress can only be looked at, not awaited.
        await asyncio.sleep(_POLL_S)


def _raise(ended: Ended, question: Question) -> None:
    if ended.mistake:
        raise UserMistakeError(ended.error)
    if ended.code == SplitRolledBackError.code:
        raise SplitRolledBackError(ended.error)
    if ended.error and question.ask == "split":
        raise RestartFailedError(
            f"The split did not end as it should. {ended.error} `tenfold processes` says what "
            "runs, and the topology file what there is to be: when it is mended, `tenfold restart` "
            "brings the one to the other."
        )
    if ended.error:
        raise RestartFailedError(
            f"The rolling restart did not end. {ended.error} Processes that were not replaced "
            "go on with the old version. Mend it and restart again."
        )
