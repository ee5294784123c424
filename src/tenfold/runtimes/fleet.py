"""The processes of one machine as a whole: begun, replaced one by one, and drained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from random import Random

import msgspec

from tenfold.contracts.errors import UserMistakeError
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.links import Assignment, Task
from tenfold.runtimes.processes import PlannedProcess, decide_order
from tenfold.runtimes.restarts import ProcessState
from tenfold.runtimes.slots import Slot
from tenfold.runtimes.spawning import Child, Spawning
from tenfold.runtimes.topology import ProductFile, Topology

__all__ = ["Fleet"]

_log = logging.getLogger("tenfold.supervisor")


class Fleet:
    """Every process of a supervisor, by its place in the plan.

    One version begins after its `before` has been prepared, in a process of its
    own that runs the new code; its `after` follows when no old process is left.
    """

    def __init__(
        self,
        source: ProductFile,
        read: Callable[[], ProductFile],
        spawning: Callable[[ProductFile], Spawning],
        assign: Callable[[ProductFile, str, PlannedProcess | None], Assignment],
        say: Callable[[str], None],
    ) -> None:
        """Take the parts; nothing is started yet.

        Args:
            source: the topology file, as it was read first.
            read: reads it again.
            spawning: how processes are spawned under a topology file.
            assign: the assignment of the process of that name, less its task; None for
                one that is for a task and hosts everything.
        """
        self._source = source
        self._read = read
        self._spawning = spawning
        self._assign = assign
        self._say = say
        self._random = Random()
        self._slots: dict[str, Slot] = {}
        self._sources: dict[str, ProductFile] = {}
        """By which file each process was begun, for those that are started again."""
        self._children: set[Child] = set()
        self.turning = asyncio.Lock()
        """Held by whoever replaces processes."""

    @property
    def source(self) -> ProductFile:
        """The topology file by which the product runs."""
        return self._source

    @property
    def names(self) -> list[str]:
        """The processes that there are to be."""
        return list(self._slots)

    @property
    def states(self) -> list[ProcessState]:
        """Every process that there is to be, and how it does."""
        return [slot.state for slot in self._slots.values()]

    async def measure(self, within_s: float) -> list[tuple[ProcessState, str | None]]:
        """Every process with what it has measured, as far as it says so in time."""
        slots = list(self._slots.values())
        texts = await asyncio.gather(*(slot.measure(within_s) for slot in slots))
        return [(slot.state, text) for slot, text in zip(slots, texts, strict=True)]

    def reap(self) -> None:
        """Look which processes have ended; for whoever hears that one did."""
        self._children = {child for child in self._children if not child.reap()}

    async def begin(self) -> None:
        """Start every process and wait until all are ready.

        Gateways come last, so that whoever finds them ready finds the services too.

        Raises: ProcessNotStartedError, UserMistakeError of the first that is not.
        """
        await self.prepare("before")
        for planned in self._source.topology.planned:
            self._slots[planned.name] = self._slot(planned)
            self._sources[planned.name] = self._source
        slots = list(self._slots.values())
        gateways = [s for s in slots if s.planned.serves] if self._source.topology.services else []
        for wave in ([slot for slot in slots if slot not in gateways], gateways):
            async with asyncio.TaskGroup() as group:
                for slot in wave:
                    group.create_task(slot.begin())
        await self.prepare("after")

    async def restart(self, tell: Callable[[str], None]) -> None:
        """Replace every process by one that runs the code and the file of now, one by one.

        Args:
            tell: is told each step, for people.
        Raises: UserMistakeError, ProcessNotStartedError; what was not replaced by then goes on.
        """

        def step(text: str) -> None:
            _log.info(text)
            tell(text)

        async with self.turning:
            self._source = self.reread()
            await self.prepare("before")
            step("A rolling restart begins.")
            wanted = self._source.topology.planned
            await self.turn(self._source, wanted, step)
            await self.end({each.name for each in wanted}, step)
            await self.prepare("after")

    async def turn(
        self, source: ProductFile, wanted: Sequence[PlannedProcess], tell: Callable[[str], None]
    ) -> None:
        """Begin or replace processes, one by one; others are left as they are.

        Args:
            source: by which file they are begun.
        Raises: UserMistakeError, ProcessNotStartedError; what was not replaced by then goes on.
        """
        for planned in decide_order(wanted):
            await self._renew(planned, source)
            tell(f"{planned.name} is new.")

    async def end(self, wanted: Collection[str], tell: Callable[[str], None]) -> None:
        """End all processes but those of these names."""
        for name in [each for each in self._slots if each not in wanted]:
            await self._slots.pop(name).end(DrainOrder())
            del self._sources[name]
            tell(f"{name} is gone.")

    def runs(self, planned: PlannedProcess, source: ProductFile) -> bool:
        """Whether there is just that process, begun by a file that says the same."""
        slot = self._slots.get(planned.name)
        return (
            slot is not None and slot.planned == planned and self._sources[planned.name] == source
        )

    async def divert(self, share: float, within_s: float) -> dict[int, SplitCounts]:
        """Let a share of calls go to a service; returns what was counted, by process id."""
        slots = [(slot.state.pid, slot) for slot in self._slots.values()]
        found = await asyncio.gather(*(slot.divert(share, within_s) for _, slot in slots))
        pairs = zip(slots, found, strict=True)
        return {pid: counts for (pid, _), counts in pairs if counts is not None}

    def settle(self, source: ProductFile) -> None:
        """Take it that all processes run by this file, which says the same as theirs."""
        self._source = source
        self._sources = dict.fromkeys(self._slots, source)

    async def drain(self, order: DrainOrder) -> None:
        """End those that serve, then those that do the work which the last requests wait for."""
        slots = list(self._slots.values())
        for group in (True, False):
            await asyncio.gather(*(s.end(order) for s in slots if s.planned.serves is group))
        # Those that were just being replaced, or had not begun.
        await asyncio.gather(*(child.stop(order) for child in self._children))

    async def kill(self) -> None:
        """End whatever is left, at once."""
        for slot in self._slots.values():
            slot.forget()
        await asyncio.gather(*(child.kill() for child in self._children))

    async def _renew(self, planned: PlannedProcess, source: ProductFile) -> None:
        slot, old = self._slots.get(planned.name), self._sources.get(planned.name)
        self._sources[planned.name] = source
        try:
            if slot is not None:
                slot.settings = source.topology.processes
                await slot.replace(planned, DrainOrder())
                return
            slot = self._slots[planned.name] = self._slot(planned)
            await slot.begin()
        except BaseException:
            if old is not None:
                self._sources[planned.name] = old
            else:
                del self._slots[planned.name], self._sources[planned.name]
            raise

    async def prepare(self, task: Task) -> None:
        """Do what is to be done before the code of now runs, or after no other does."""
        child = self._spawn(f"prepare-{task}", self._source, task=task)
        said = await child.begun()
        if said:
            self._say(said)

    def _slot(self, planned: PlannedProcess) -> Slot:
        def spawn(planned: PlannedProcess) -> Child:
            return self._spawn(planned.name, self._sources[planned.name], planned)

        return Slot(planned, self._source.topology.processes, spawn, self._random)

    def _spawn(
        self,
        name: str,
        source: ProductFile,
        planned: PlannedProcess | None = None,
        task: Task = "run",
    ) -> Child:
        assignment = msgspec.structs.replace(self._assign(source, name, planned), task=task)
        child = Child(self._spawning(source), assignment)
        self._children.add(child)
        return child

    def reread(self) -> ProductFile:
        """The topology file of now. Raises: UserMistakeError where it needs a whole new start."""
        source = self._read()
        changed = _changed(self._source, source)
        if changed:
            raise UserMistakeError(
                f"{source.file}: {', '.join(changed)} differs from what the product was started "
                "with, which a rolling restart cannot change. Nothing was replaced. Stop the "
                "product and start it again."
            )
        return source


def _hosts(topology: Topology) -> dict[str, tuple[str, bool, list[str]]]:
    return {
        name: (service.listen, service.replicas > 0, sorted(service.modules))
        for name, service in topology.groups.items()
    }


def _changed(before: ProductFile, now: ProductFile) -> Sequence[str]:
    old, new = before.topology, now.topology
    compared = {
        "name": (before.name, now.name),
        "data": (before.data_dir, now.data_dir),
        "http.host": (old.http.host, new.http.host),
        "http.port": (old.http.port, new.http.port),
        "processes.web (to or from 0)": (old.processes.web > 0, new.processes.web > 0),
        "services (their modules, where they listen, or whether they run here)": (
            _hosts(old),
            _hosts(new),
        ),
        "database.kind": (old.database.kind, new.database.kind),
        "database.url": (old.database.url, new.database.url),
    }
    return [name for name, (was, is_now) in compared.items() if was != is_now]
