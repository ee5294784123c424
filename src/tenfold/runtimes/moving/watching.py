"""Who sees what is written to the source while it is copied."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, cast

from tenfold.adapters.frames.link import FrameLink, connect
from tenfold.contracts.contract import read_contract
from tenfold.contracts.errors import TenfoldError
from tenfold.path.arguments import argument_binder
from tenfold.ports.peers import Outgoing
from tenfold.runtimes.lock import Holder, holder_of
from tenfold.runtimes.moving.contract import Changed, Moving, NotWatched
from tenfold.runtimes.moving.errors import MoveRefusedError

__all__ = ["Quiet", "Watched", "Watching"]

_PART: Final = 20_000
_STOP_S: Final = 60.0
_AGAIN_S: Final = 20.0
_POLL_S: Final = 0.05
_PULSE_S: Final = 15.0
Tables = Mapping[str, Mapping[str, list[str]]]


class Watching(Protocol):
    """Whoever sees the source's writes. `running` says that there may be some."""

    running: bool

    async def begin(self, tables: Tables) -> None:
        """See what is written from now on, by the columns of each table's key."""
        ...

    async def take(self, module: str, *, held: bool) -> Iterable[tuple[Any, ...]]:
        """Table and key of what was written since the last time."""
        ...

    async def refuse_writes(self, refuse: bool) -> None:
        """Let nothing more be written; with False let it be again."""
        ...

    async def stop(self, say: Callable[[str], None]) -> None:
        """End whoever wrote."""
        ...


class Quiet:
    """A product that does not run: this process holds the lock on its data."""

    running = False

    async def begin(self, tables: Tables) -> None:
        """See `Watching.begin`."""

    async def take(self, module: str, *, held: bool) -> Iterable[tuple[Any, ...]]:
        """See `Watching.take`."""
        return ()

    async def refuse_writes(self, refuse: bool) -> None:
        """See `Watching.refuse_writes`."""

    async def stop(self, say: Callable[[str], None]) -> None:
        """See `Watching.stop`."""


class Watched:
    """A product that runs in another process, which watches its own writers for us."""

    running = True

    def __init__(self, client: FrameLink, holder: Holder, directory: Path) -> None:
        self._client = client
        self._holder = holder
        self._directory = directory
        spec = read_contract(cast("Any", Moving))
        self._operations = spec.operations
        self._binders = {name: argument_binder(each) for name, each in spec.operations.items()}
        self._kept: dict[str, set[tuple[Any, ...]]] = {}
        self._modules: list[str] = []
        self._turn = asyncio.Lock()
        self._pulse: asyncio.Task[None] | None = None
        self._failure: TenfoldError | None = None

    @staticmethod
    async def connect(holder: Holder, directory: Path) -> Watched:
        """Reach the process that holds the data.

        Raises: PeerUnavailableError; MoveRefusedError where it is not serving.
        """
        if holder.state != "serving":
            raise MoveRefusedError(
                f"Process {holder.pid} (`{holder.command}`) holds the data and is {holder.state}. "
                "Nothing was changed. Try again when it serves, or has ended."
            )
        return Watched(await connect(Path(holder.control)), holder, directory)

    async def close(self) -> None:
        """Let it watch no more, where it still runs."""
        if self._pulse is not None:
            self._pulse.cancel()
            await asyncio.gather(self._pulse, return_exceptions=True)
        if self._modules:
            try:
                async with asyncio.timeout(5):
                    await self._call("forget")
            except (TenfoldError, TimeoutError):
                pass  # it has ended, or ends watching by itself
        self._client.close()
        await self._client.ended.wait()

    async def begin(self, tables: Tables) -> None:
        """See `Watching.begin`."""
        self._modules = list(tables)
        await self._call("watch", tables={m: dict(keys) for m, keys in tables.items()})
        self._pulse = asyncio.ensure_future(self._keep())

    async def take(self, module: str, *, held: bool) -> Iterable[tuple[Any, ...]]:
        """See `Watching.take`."""
        async with self._turn:
            if self._failure is not None:
                raise self._failure
            found = self._kept.pop(module, set())
            return found | await self._take(module, held)

    async def refuse_writes(self, refuse: bool) -> None:
        """See `Watching.refuse_writes`."""
        await self._call("refuse_writes", refuse=refuse)

    async def stop(self, say: Callable[[str], None]) -> None:
        """See `Watching.stop`."""
        pid = self._holder.pid
        say(f"Switched over. Process {pid}, which ran the source, is asked to stop.")
        if self._pulse is not None:
            self._pulse.cancel()
        _ask_to_end(pid)
        began, hurried = time.monotonic(), False
        while (holder := holder_of(self._directory)) is not None and holder.pid == pid:
            waited = time.monotonic() - began
            if waited > _AGAIN_S and not hurried:
                _ask_to_end(pid)  # what it still does cannot be committed
                hurried = True
            if waited > _STOP_S:
                say(f"Process {pid} still runs, and writes no more: end it.")
                return
            await asyncio.sleep(_POLL_S)

    async def _keep(self) -> None:
        """Ask now and then: a process that nobody asks takes the mover for dead."""
        while True:
            await asyncio.sleep(_PULSE_S)
            try:
                for module in self._modules:
                    async with self._turn:
                        found = await self._take(module, held=False)
                        self._kept.setdefault(module, set()).update(found)
            except TenfoldError as error:
                self._failure = error
                return

    async def _take(self, module: str, held: bool) -> set[tuple[Any, ...]]:
        found: set[tuple[Any, ...]] = set()
        more = True
        while more:
            try:
                part: Changed = await self._call("take", module=module, most=_PART, held=held)
            except NotWatched as refusal:
                raise MoveRefusedError(
                    f"The process that runs the source watches {module!r} no more: it was "
                    "restarted, or too much was written. Nothing was switched over. Run the move "
                    "again, which compares what is there."
                ) from refusal
            found.update(map(tuple, part.keys))
            more = part.more
        return found

    async def _call(self, name: str, **arguments: Any) -> Any:
        bound = self._binders[name]((), arguments)
        outgoing = Outgoing(operation=self._operations[name], arguments=bound)
        return (await self._client.call(outgoing)).value


def _ask_to_end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has ended
