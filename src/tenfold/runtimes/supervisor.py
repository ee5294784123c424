"""The supervisor: the processes of one machine, from the first check to the last drain.

It binds the port and runs nothing of the product: its processes inherit the
socket, so that connections wait while one of them is replaced, and each is a
fresh interpreter, so that a rolling restart runs the code that is on the disk.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tenfold.contracts.errors import TenfoldError
from tenfold.runtimes.balancers.plan import decide_linger
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.fleet import Fleet
from tenfold.runtimes.gathering import Gathering
from tenfold.runtimes.hosting import WEB
from tenfold.runtimes.links import Assignment
from tenfold.runtimes.listening import bind, bracketed, greeting, refuse_open_doors
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.log_pump import LogPump
from tenfold.runtimes.processes import PlannedProcess, decide_names_here
from tenfold.runtimes.restarts import RestartServer
from tenfold.runtimes.roles import Role
from tenfold.runtimes.services import Sockets
from tenfold.runtimes.spawning import COMMAND, Spawning
from tenfold.runtimes.splits.walk import Splits
from tenfold.runtimes.topology import ProductFile

__all__ = ["Supervision", "supervise"]

_SAME_WISH_S = 1.0
"""Seconds in which a second signal is the same wish: a terminal's group and make send it twice."""
_ORPHANS_S = 3.0
"""Seconds for which the processes of a killed supervisor may hold the port."""
_SPARE_S = 5.0
_STOPPED, _HURRIED = 0, 130
_log = logging.getLogger("tenfold.supervisor")


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """What a supervisor is given.

    Args:
        read: reads the topology file; again at each rolling restart.
        overrides: what the command line said, for the processes.
        environ: of the processes, with the URLs of the servers that they use.
        say: tells whoever started it.
        command: what runs a process; see `spawning.COMMAND`.
        log: where all lines go.
    """

    read: Callable[[], ProductFile]
    overrides: Mapping[str, str]
    environ: Mapping[str, str]
    say: Callable[[str], None] = print
    command: Sequence[str] = COMMAND
    log: IO[str] = field(default_factory=lambda: sys.stderr)


def supervise(source: ProductFile, supervision: Supervision, lock: DataLock) -> int:
    """Run the processes of a product until SIGINT or SIGTERM; SIGHUP replaces them one by one.

    A second signal to stop, a second later, ends everything at once.

    Args:
        source: what `supervision.read` has read first.
        lock: on the data directory; it stays with the caller.
    Returns: the exit code.
    Raises: PortInUseError, ProcessNotStartedError, UserMistakeError: nothing runs then.
    """
    limits = source.topology.http
    refuse_open_doors(limits, source.origins)
    planned = source.topology.planned
    listener = bind(limits, wait_s=_ORPHANS_S) if any(each.serves for each in planned) else None
    sockets = Sockets(Path(lock.holder.control).parent, source.topology.groups)
    pump = LogPump(supervision.log.fileno())
    try:
        return asyncio.run(_Supervisor(source, supervision, lock, listener, sockets, pump).run())
    finally:
        if listener is not None:
            listener.close()
        sockets.close()
        pump.close()


class _Supervisor:
    def __init__(
        self,
        source: ProductFile,
        supervision: Supervision,
        lock: DataLock,
        listener: socket.socket | None,
        sockets: Sockets,
        pump: LogPump,
    ) -> None:
        self._sockets = sockets
        self._source = source
        self._supervision = supervision
        self._lock = lock
        self._listener = listener
        self._pump = pump
        self._fleet = Fleet(source, supervision.read, self._spawning, self._assign, supervision.say)
        self._gathering = Gathering(self._fleet.measure)
        self._splits = Splits(self._fleet, sockets, supervision.overrides)
        self._restarts = RestartServer(
            self._fleet.restart, self._splits.split, lambda: self._fleet.states
        )
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._order = DrainOrder()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        with self._signals():
            try:
                if await self._until(self._asked, self._fleet.begin()):
                    await self._serve()
                self._lock.say("stopping")
                self._splits.stop()
                await self._restarts.stop()
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)
                if self._listener is not None:
                    self._listener.close()  # whoever comes now is turned away, and does not wait
                await self._until(self._hurried, self._fleet.drain(self._order))
            finally:
                await self._restarts.stop()
                await self._fleet.kill()
        if self._hurried.is_set():
            self._supervision.say("Stopped at once; what was not committed is not done.")
            return _HURRIED
        self._supervision.say("Drained and stopped.")
        return _STOPPED

    async def _serve(self) -> None:
        await self._restarts.start(Path(self._lock.holder.control).parent)
        self._lock.say("serving")
        self._supervision.say(self._greeting())
        await self._asked.wait()

    async def _until(self, event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
        """Whether work was done before an event came; it is given up then."""
        doing = asyncio.create_task(work)
        waiting = asyncio.create_task(event.wait())
        try:
            await asyncio.wait([doing, waiting], return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                _tell_one(doing)
                return True
            return False
        finally:
            for task in (doing, waiting):
                task.cancel()
            await asyncio.gather(doing, waiting, return_exceptions=True)

    async def _restart(self) -> None:
        try:
            await self._fleet.restart(lambda _: None)
        except (TenfoldError, OSError) as error:  # the system may lack memory, or processes
            _log.error("The rolling restart failed: %s", error)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        first_s = 0.0

        def stop(order: DrainOrder) -> None:
            nonlocal first_s
            if not self._asked.is_set():
                first_s = loop.time()
                self._order = order
                self._asked.set()
            elif loop.time() - first_s > _SAME_WISH_S:
                self._hurried.set()

        def restart() -> None:
            if self._lock.holder.state == "serving":
                task = loop.create_task(self._restart())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        handlers: dict[signal.Signals, Callable[[], None]] = {
            # Who sits at a terminal has no balancer that must look elsewhere first.
            signal.SIGINT: lambda: stop(DrainOrder(keep_idle=False)),
            signal.SIGTERM: lambda: stop(self._leave()),
            signal.SIGHUP: restart,
            signal.SIGCHLD: self._fleet.reap,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
                if number is not signal.SIGCHLD:
                    # A signal that comes late must not make the end look like a crash.
                    signal.signal(number, signal.SIG_IGN)

    def _leave(self) -> DrainOrder:
        """How all processes stop: behind a balancer they wait until it has looked elsewhere."""
        balancer = self._source.topology.balancer
        return DrainOrder(linger_s=decide_linger(balancer), keep_idle=bool(balancer.servers))

    def _spawning(self, source: ProductFile) -> Spawning:
        topology = source.topology
        return Spawning(
            pump=self._pump,
            environ=self._supervision.environ,
            start_timeout_s=topology.processes.start_timeout_s,
            stop_timeout_s=_stop_timeout_s(source),
            hung_s=topology.processes.hung_s,
            gather=self._gathering.text,
            command=self._supervision.command,
        )

    def _assign(self, source: ProductFile, name: str, planned: PlannedProcess | None) -> Assignment:
        # Whoever else held a socket would keep its queue of connections open, and accept none.
        listener: socket.socket | None = None
        calls: socket.socket | None = None
        if planned is not None and planned.role is not Role.WORKER:
            listener = None if planned.service else self._listener
            group = planned.service or WEB
            calls = self._sockets.of(group) if group in source.topology.groups else None
        return Assignment(
            name=name,
            role=Role.ALL if planned is None else planned.role,
            service="" if planned is None else planned.service,
            splitting=None if planned is None else planned.splitting,
            sockets={} if planned is None else self._sockets.paths,
            file=str(source.file),
            topology=source.topology.name,
            overrides=dict(self._supervision.overrides),
            listener=None if listener is None else listener.fileno(),
            calls=None if calls is None else calls.fileno(),
            people=self._supervision.log.isatty(),
            within_s=_stop_timeout_s(source),
        )

    def _greeting(self) -> str:
        source = self._source
        processes = source.topology.processes
        services = source.topology.services
        here = ", ".join(decide_names_here(services))
        runs = f"{processes.web} web and {processes.workers} worker processes"
        if services and processes.modules:
            runs = f"{runs}, and the services {here}"
        elif services:
            runs = f"{processes.web} gateways" + (f" and the services {here}" if here else "")
        runs += f" (supervisor {self._lock.holder.pid})"
        name, topology = source.name, source.topology.name
        if self._listener is None:
            return f"{name} · topology {topology} · runs {runs}\nCtrl-C drains and stops."
        host = bracketed(source.topology.http.host)
        url = f"http://{host}:{self._listener.getsockname()[1]}"
        return greeting(name, topology, source.mounts, source.data_dir, url, runs)


def _tell_one(done: asyncio.Task[None]) -> None:
    """Raise what a task raised; of a group's errors the first, since the others follow from it."""
    error = done.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


def _stop_timeout_s(source: ProductFile) -> float:
    """How long a process may take to drain: its connections, its calls, its background work."""
    return 3 * source.topology.http.drain_s + _SPARE_S
