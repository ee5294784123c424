"""One process of a supervisor: spawned, listened to, watched, stopped, and in the end killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.links import (
    BEAT_S,
    AskMetrics,
    Assignment,
    Beat,
    Divert,
    Diverted,
    Done,
    Failed,
    Gathered,
    Measure,
    Measured,
    Order,
    Ready,
    Report,
    Said,
    Stop,
    decode_said,
    encode_message,
)
from tenfold.runtimes.log_pump import LogPump
from tenfold.runtimes.processes import decide_hung_beats

__all__ = ["COMMAND", "Child", "ProcessNotStartedError", "Spawning"]

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "tenfold.runtimes.child")
"""What runs a process; its name and the descriptor of its link follow."""
_log = logging.getLogger("tenfold.supervisor")
_ABORT_S = 2.0
"""Seconds in which a process that hangs can say where it stands."""
_MISTAKES = ("user.mistake", "contract.invalid")


class ProcessNotStartedError(TenfoldError):
    """A process of the product could not begin its work; the message has its reason."""

    code = "run.process_not_started"


@dataclass(frozen=True, kw_only=True)
class Spawning:
    """What all processes of one supervisor are spawned with.

    Args:
        environ: of the processes.
        start_timeout_s: how long one may take until it is ready; what is for one
            task takes as long as that does.
        stop_timeout_s: how long one may take to stop, beside what it lingers.
        hung_s: for how long its event loop may stand still; 0 for any time.
        gather: what all processes have measured, for one that asks.
    """

    pump: LogPump
    environ: Mapping[str, str]
    start_timeout_s: float
    stop_timeout_s: float
    hung_s: float = 0.0
    gather: Callable[[], Awaitable[str]] | None = None
    command: Sequence[str] = COMMAND


class Child:
    """One process, from its start to its end.

    `ended` is set when it is gone; `served_s` is how long it had been ready then.
    """

    def __init__(self, spawning: Spawning, assignment: Assignment) -> None:
        """Spawn the process and hand it its assignment."""
        self.name = assignment.name
        self._timeout_s = spawning.start_timeout_s if assignment.task == "run" else None
        self.ended = asyncio.Event()
        self.ready_at: float | None = None
        self.order: DrainOrder | None = None
        self._spawning = spawning
        self._reported: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        ours, theirs = socket.socketpair()
        inherited = [fd for fd in (assignment.listener, assignment.calls) if fd is not None]
        out = spawning.pump.pipe(assignment.name)
        try:
            self._process = subprocess.Popen(
                [*spawning.command, assignment.name, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(theirs.fileno(), *inherited),
                env=dict(spawning.environ),
                process_group=0,  # what a terminal sends goes to the supervisor alone
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(out)
        ours.setblocking(False)
        self._link = ours
        self._beats = self._hung = False
        self._silent = 0
        self._asked: dict[int, asyncio.Future[Measured | Diverted]] = {}
        self._questions = 0
        self._unsaid: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._say(assignment)
        self._speaking = self._begin(self._speak())
        self._begin(self._listen())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self.ended.is_set()

    @property
    def served_s(self) -> float | None:
        """Seconds since it was ready; None where it never was."""
        if self.ready_at is None:
            return None
        return asyncio.get_running_loop().time() - self.ready_at

    def reap(self) -> bool:
        """Look whether it has ended; for whoever hears that some process did."""
        if self.alive and self._process.poll() is not None:
            self.ended.set()
        return not self.alive

    def how(self) -> str:
        """How it ended, for people."""
        code = self._process.returncode
        if code is None:
            return "runs"
        if self._hung:
            return f"did nothing for {self._spawning.hung_s:g} s and was killed"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    async def begun(self) -> str:
        """Wait until it is ready, or done where it was for one task; returns what it said.

        Raises: ProcessNotStartedError, or UserMistakeError where that is why. It
            has ended then.
        """
        ending = asyncio.create_task(self.ended.wait())
        first: list[asyncio.Future[Any]] = [self._reported, ending]
        try:
            await asyncio.wait(
                first,
                timeout=self._timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if self._reported.done():
                report = self._reported.result()
                if isinstance(report, Ready):
                    self.ready_at = asyncio.get_running_loop().time()
                    return ""
                await self.kill(after_s=self._spawning.stop_timeout_s)
                if isinstance(report, Done):
                    return report.said
                raise _not_started(self.name, report)
            if not self.alive:
                raise ProcessNotStartedError(
                    f"The process {self.name} {self.how()} before it was ready. The log has more."
                )
            raise ProcessNotStartedError(
                f"The process {self.name} was not ready within {self._timeout_s:g} "
                "s and was ended. Raise `start_timeout_s` under `processes` if it needs longer."
            )
        except BaseException:
            await self.kill()
            raise
        finally:
            ending.cancel()

    async def measure(self, within_s: float) -> str | None:
        """What it has measured, as Prometheus text; None where it does not say so in time."""
        said = await self._ask(lambda number: Measure(number=number), within_s)
        return said.text if isinstance(said, Measured) else None

    async def divert(self, share: float, within_s: float) -> SplitCounts | None:
        """Let this share of the calls of a module that is split go to its service.

        Returns: what it has counted; None where it does not say so in time.
        """
        said = await self._ask(lambda number: Divert(number=number, share=share), within_s)
        return said.counts if isinstance(said, Diverted) else None

    async def stop(self, order: DrainOrder) -> None:
        """Let it drain, and kill it where it takes longer than it may."""
        if self.order is None:
            self.order = order
            self._say(Stop(order=order))
        await self.kill(after_s=order.linger_s + self._spawning.stop_timeout_s)

    async def kill(self, *, after_s: float = 0.0) -> None:
        """Wait so long for its end, then enforce it."""
        if after_s > 0:
            try:
                async with asyncio.timeout(after_s):
                    await self.ended.wait()
            except TimeoutError:
                _log.error("%s (process %d) did not end in time, and is killed.", *self._who)
        if not self.reap():
            self._process.kill()
        await self.ended.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._link.close()

    async def _ask(
        self, question: Callable[[int], Order], within_s: float
    ) -> Measured | Diverted | None:
        self._questions = number = self._questions + 1
        answer: asyncio.Future[Measured | Diverted] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._say(question(number))
        try:
            async with asyncio.timeout(within_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[number]

    @property
    def _who(self) -> tuple[str, int]:
        return self.name, self.pid

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _say(self, order: Assignment | Order) -> None:
        self._unsaid.put_nowait(encode_message(order))

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # it has ended, and that is seen anyway
            while True:
                await loop.sock_sendall(self._link, await self._unsaid.get())

    async def _listen(self) -> None:
        try:
            await self._hear_all()
        finally:  # its end of the link is closed, which it is when it has ended
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)
            self._link.close()

    async def _hear_all(self) -> None:
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        while True:
            try:
                data = await loop.sock_recv(self._link, 65_536)
            except OSError:
                return
            if not data:
                return
            first, *others = data.split(b"\n")
            parts.append(first)
            for rest in others:
                self._hear(b"".join(parts))
                parts = [rest]

    def _hear(self, line: bytes) -> None:
        try:
            said: Said = decode_said(line)
        except msgspec.DecodeError:
            _log.warning("%s said what is not understood: %r", self.name, line[:200])
            return
        match said:
            case Beat():
                if not self._beats:
                    self._beats = True
                    self._begin(self._watch())
                self._silent = 0
            case Measured() | Diverted():
                answer = self._asked.get(said.number)
                if answer is not None and not answer.done():
                    answer.set_result(said)
            case AskMetrics():
                self._begin(self._tell_metrics())
            case _:
                if not self._reported.done():
                    self._reported.set_result(said)

    async def _tell_metrics(self) -> None:
        if self._spawning.gather is not None:
            self._say(Gathered(text=await self._spawning.gather()))

    async def _watch(self) -> None:
        """Kill it where its loop stands still; one that drains has a bound of its own."""
        most = decide_hung_beats(self._spawning.hung_s, beat_s=BEAT_S)
        if most is None:
            return
        while self.alive and self.order is None:
            await asyncio.sleep(BEAT_S)
            self._silent += 1
            if self._silent > most and self.order is None and not self.reap():
                self._hung = True
                break
        else:
            return
        _log.error(
            "The event loop of %s (process %d) has stood still for %d s, so that it is killed. "
            "Where it stands is said by itself below, if it can. Something in it computes or "
            "waits for so long without `await`: run that in a thread, or in smaller parts; or "
            "raise `hung_s` under `processes`.",
            *self._who,
            most,
        )
        self._process.send_signal(signal.SIGABRT)  # faulthandler writes where each thread is
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABORT_S):
                await self.ended.wait()
        if not self.reap():
            self._process.kill()


def _not_started(name: str, failed: Failed) -> TenfoldError:
    if failed.code in _MISTAKES:
        return UserMistakeError(failed.message)
    return ProcessNotStartedError(f"The process {name} could not begin. {failed.message}")
