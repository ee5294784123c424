"""One process of a supervisor: spawned, listened to, stopped, and in the end killed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.links import Assignment, Done, Failed, Ready, Report, Stop, decode_report
from tenfold.runtimes.log_pump import LogPump

__all__ = ["COMMAND", "Child", "ProcessNotStartedError", "Spawning"]

COMMAND: Sequence[str] = (sys.executable, "-P", "-m", "tenfold.runtimes.child")
"""What runs a process; its name and the descriptor of its link follow."""
_log = logging.getLogger("tenfold.supervisor")
_encode = msgspec.json.Encoder().encode
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
    """

    pump: LogPump
    environ: Mapping[str, str]
    start_timeout_s: float
    stop_timeout_s: float
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
        inherited = [] if assignment.listener is None else [assignment.listener]
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
        with contextlib.suppress(OSError):  # it has ended already, and that is seen anyway
            ours.send(_encode(assignment) + b"\n")
        self._listening = asyncio.create_task(self._listen())

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

    async def stop(self, order: DrainOrder) -> None:
        """Let it drain, and kill it where it takes longer than it may."""
        if self.order is None:
            self.order = order
            with contextlib.suppress(OSError):
                self._link.send(_encode(Stop(order=order)) + b"\n")
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
        self._listening.cancel()
        self._link.close()

    @property
    def _who(self) -> tuple[str, int]:
        return self.name, self.pid

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        rest = b""
        while True:
            try:
                data = await loop.sock_recv(self._link, 65_536)
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            report = decode_report(line)
        except msgspec.DecodeError:
            _log.warning("%s said what is not understood: %r", self.name, line[:200])
            return
        if not self._reported.done():
            self._reported.set_result(report)


def _not_started(name: str, failed: Failed) -> TenfoldError:
    if failed.code in _MISTAKES:
        return UserMistakeError(failed.message)
    return ProcessNotStartedError(f"The process {name} could not begin. {failed.message}")
