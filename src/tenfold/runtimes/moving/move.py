"""A product's data moved from its SQLite files to PostgreSQL, while it runs.

Copy, compare, follow, hold, follow, check, switch. See docs/explanation/moving.md.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import asyncpg

from tenfold.adapters.postgres.errors import DRIVER_ERRORS, unavailable
from tenfold.adapters.postgres.migrate import migrate
from tenfold.adapters.sqlite.migrate import pending
from tenfold.contracts.structs import Struct
from tenfold.ports.clock import RandomIds, SystemClock
from tenfold.runtimes.lock import DataLock, holder_of
from tenfold.runtimes.moving.copying import Key, TableMove
from tenfold.runtimes.moving.errors import MoveMismatchError, MoveRefusedError, PauseTooLongError
from tenfold.runtimes.moving.source import SourceFile, held
from tenfold.runtimes.moving.tables import TableCopy, read_copies
from tenfold.runtimes.moving.target import Target
from tenfold.runtimes.moving.watching import Quiet, Watched, Watching
from tenfold.runtimes.opening import OpenedModule, Surroundings
from tenfold.runtimes.postgres_stores import PostgresStores
from tenfold.runtimes.reflection import ModuleShape, read_module
from tenfold.runtimes.topology import Product

__all__ = ["MovePlan", "Moved", "TableSum", "move"]

_log = logging.getLogger("tenfold.move")
_CALM_KEYS: Final = 2_000
_MOST_ROUNDS: Final = 50
_FOLLOWED_S: Final = 1.0
"""Between two rounds, while a move that has copied everything waits to be told."""
_NO_MARKS: Final = ("lock", "control.sock")


class MovePlan(Struct):
    """What is moved where.

    `most_pause_s` bounds how long writes are held. A `rehearsal` does all but the
    last step: the source goes on, and the copy is brought up to date by the next move.
    """

    source: Product
    target: Product
    most_pause_s: float = 4.5
    rehearsal: bool = False


class TableSum(Struct):
    """One table as both sides have it: rows, and the sum of their fingerprints."""

    module: str
    table: str
    rows: int
    checksum: str


class Moved(Struct):
    """How a move went. `pause_s` is how long writes were held; 0 where the product stood still."""

    tables: list[TableSum]
    rows: int
    changed: int
    rounds: int
    pause_s: float
    seconds: float
    rehearsal: bool


async def move(
    plan: MovePlan,
    say: Callable[[str], None],
    told: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Moved:
    """Move a product's data. One that was interrupted goes on where it was.

    Args:
        say: is told how far it is, a sentence at a time.
        told: returns when it is time to switch over; until then what is written is
            followed. Without it that is as soon as everything is copied.
    Raises: MoveRefusedError, MoveMismatchError, PauseTooLongError (NOT_DONE): the source
        goes on as it was, and what was copied stays for the next try. StoreUnavailableError
        where the target was lost: the same, and the source's process may refuse writes until it
        is started again, where it was lost at the very end.
    """
    try:
        return await _moved(plan, say, told)
    except DRIVER_ERRORS as error:
        raise unavailable("The target of the move", error) from error


async def _moved(
    plan: MovePlan,
    say: Callable[[str], None],
    told: Callable[[], Coroutine[Any, Any, None]] | None,
) -> Moved:
    directory = plan.source.data_dir
    async with AsyncExitStack() as stack:
        watching = await _watching(stack, directory)
        shapes = {name: read_module(name, cls) for name, cls in plan.source.modules.items()}
        _refuse_unfit(plan, shapes)
        opened = await _open_target(stack, plan.target, shapes)
        connection = await asyncpg.connect(plan.target.topology.database.url)
        stack.push_async_callback(connection.close)
        files = [SourceFile(name, directory / f"{name}.db") for name in shapes]
        for file in files:
            stack.callback(file.close)
        target = Target(connection, list(shapes))
        await target.begin(str(directory.resolve()))
        for file in files:
            active = {name: number for name, (number, _) in file.generations().items()}
            await target.answer_from(opened[file.module], file.module, active)
        await target.leave_references_out()
        return await _Move(plan, watching, files, target, say).run(told)


async def _watching(stack: AsyncExitStack, directory: Path) -> Watching:
    """Whoever sees the source's writes: the process that runs it, or nobody needs to."""
    holder = holder_of(directory)
    if holder is None:
        lock = DataLock.acquire(directory, "tenfold move")
        stack.callback(lock.release)
        return Quiet()
    watched = await Watched.connect(holder, directory)
    stack.push_async_callback(watched.close)
    return watched


def _refuse_unfit(plan: MovePlan, shapes: dict[str, ModuleShape]) -> None:
    directory = plan.source.data_dir
    for name, shape in shapes.items():
        file = directory / f"{name}.db"
        if not file.exists():
            raise MoveRefusedError(
                f"There is no {file.name} in {directory}, so there is no data of module {name!r} "
                "to be moved. Nothing was changed. Name the product's data with --data, or start "
                "it once."
            )
        if shape.migrations is not None and (steps := pending(file, name, shape.migrations)):
            raise MoveRefusedError(
                f"The file of module {name!r} lacks {len(steps)} migrations ({steps[0]}, …), so "
                "its tables are not those of the target. Nothing was changed. Start this version "
                "of the product on its data, or run `tenfold migrate`."
            )


async def _open_target(
    stack: AsyncExitStack, product: Product, shapes: dict[str, ModuleShape]
) -> dict[str, OpenedModule]:
    """Make every module's schema, migrated."""
    around = Surroundings(product.data_dir, SystemClock(), RandomIds(), create_tables=False)
    stores = PostgresStores(product.topology.database, around, moving_in=True)
    await stores.start()
    stack.push_async_callback(stores.close, 2.0)
    opened = {}
    for name, shape in shapes.items():
        if shape.migrations is not None:
            # All of them: the source has no older code beside it, and its tables are the newest.
            await migrate(product.topology.database.url, name, shape.migrations)
        opened[name] = await stores.open(shape, lambda _: None)
    return opened


class _Move:
    def __init__(
        self,
        plan: MovePlan,
        watching: Watching,
        files: list[SourceFile],
        target: Target,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._watching = watching
        self._files = files
        self._target = target
        self._say = say
        self._tables: dict[str, dict[str, TableMove]] = {}
        self._generations = {file.module: file.generations() for file in files}
        self._progress = _Progress(say)
        self._changed = self._rounds = 0

    async def run(self, told: Callable[[], Coroutine[Any, Any, None]] | None) -> Moved:
        began = time.monotonic()
        for file in self._files:
            copies = await read_copies(file.module, file.connection, self._target.connection)
            self._tables[file.module] = {
                copy.name: TableMove(
                    copy, file.connection, self._target.connection, self._progress.read
                )
                for copy in copies
            }
        await self._watching.begin(
            {
                module: {name: list(each.copy.key_names) for name, each in tables.items()}
                for module, tables in self._tables.items()
            }
        )
        rows = await self._copy()
        await self._follow(counted=False)
        await self._compare()
        await self._explain(await self._follow(counted=True))
        if told is not None:
            await self._follow_until(told)
        pause_s = await self._switch()
        return Moved(
            tables=self._sums(),
            rows=rows,
            changed=self._changed,
            rounds=self._rounds,
            pause_s=pause_s,
            seconds=time.monotonic() - began,
            rehearsal=self._plan.rehearsal,
        )

    async def _copy(self) -> int:
        """Fill what is empty; compare what a move before has filled."""
        for file in self._files:
            with file.snapshot():
                for each in self._tables[file.module].values():
                    self._progress.begin("copied", each.copy)
                    filled = await each.fill()
                    if not filled:
                        self._progress.begin("compared", each.copy)
                        await each.compare()
                        if each.differing:
                            await each.apply(list(each.differing), counted=False)
                    await self._target.note(self._progress.rows)
                    self._progress.end()
        return self._progress.total

    async def _compare(self) -> None:
        """Sum up both sides; what is written meanwhile differs, and is followed next."""
        for file in self._files:
            with file.snapshot():
                for each in self._tables[file.module].values():
                    self._progress.begin("checked", each.copy)
                    await each.compare()
                    self._progress.end()

    async def _follow(self, *, counted: bool) -> dict[tuple[str, str], set[Key]]:
        """Bring the target after what is written, until little is left; returns all the keys."""
        seen: dict[tuple[str, str], set[Key]] = {}
        for _ in range(_MOST_ROUNDS):
            began, count = time.monotonic(), 0
            for file in self._files:
                changes = await self._watching.take(file.module, held=False)
                with file.snapshot():
                    count += await self._apply(file.module, changes, counted, seen)
            self._rounds += 1
            if count:
                self._say(f"Followed {count:,} writes in {time.monotonic() - began:.1f} s.")
            if count <= _CALM_KEYS:
                return seen
        return seen

    async def _follow_until(self, told: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Stay close behind the source until it is time to switch over."""
        self._say("Everything is copied, and followed until it is told to switch over.")
        asked = asyncio.create_task(told())
        try:
            while not asked.done():
                await asyncio.wait([asked], timeout=_FOLLOWED_S)
                await self._follow(counted=True)
            await asked
        finally:
            asked.cancel()

    async def _apply(
        self,
        module: str,
        changes: Iterable[tuple[object, ...]],
        counted: bool,
        seen: dict[tuple[str, str], set[Key]],
    ) -> int:
        by_table: dict[str, set[Key]] = {}
        for table, *key in changes:
            by_table.setdefault(str(table), set()).add(tuple(key))
        for table, keys in by_table.items():
            self._changed += await self._tables[module][table].apply(keys, counted=counted)
            seen.setdefault((module, table), set()).update(keys)
        return sum(map(len, by_table.values()))

    async def _explain(self, seen: dict[tuple[str, str], set[Key]]) -> None:
        """Refuse to go on where source and target differed and nothing was written."""
        for module, tables in self._tables.items():
            for name, each in tables.items():
                # One that was written was brought up to date, and differs no more.
                left = each.differing.keys() - seen.get((module, name), set())
                if left:
                    raise MoveMismatchError(
                        f"{len(left)} rows of {module}.{name} differ, and nobody wrote them at the "
                        f"source: {sorted(left, key=repr)[:3]!r}. Nothing was switched over. Does "
                        "something else write into the target? Let it be, and run the move again."
                    )

    async def _switch(self) -> float:
        """Hold the writes, follow the last of them, check, and switch over."""
        most_s = self._plan.most_pause_s
        files = [file.file for file in self._files]
        began = time.monotonic()
        async with held(files, most_s):
            try:
                async with asyncio.timeout(max(most_s - (time.monotonic() - began), 0.1)):
                    for file in self._files:
                        changes = await self._watching.take(file.module, held=True)
                        await self._apply(file.module, changes, True, {})
                    await self._check()
            except TimeoutError as error:
                raise PauseTooLongError(
                    f"The last writes were not followed within {most_s:g} s. Nothing was switched "
                    "over, and writes go on. Run the move again at a quieter time."
                ) from error
            await self._finish(began)
            pause_s = time.monotonic() - began
        if not self._plan.rehearsal:
            await self._watching.stop(self._say)
        for left in await self._target.validate():
            # The move is done: what is left must not read as if it were not.
            _log.warning("A foreign key of the target holds for new rows alone so far. %s", left)
            self._say(f"A foreign key is not checked yet. Mend its rows, then run: {left}")
        return pause_s if self._watching.running else 0.0

    async def _finish(self, began: float) -> None:
        """Complete the target. The source writes no more before that is noted: see moving.md."""
        marks = _marks(self._plan.source.data_dir)
        rehearsal = self._plan.rehearsal
        pause_ms = int((time.monotonic() - began) * 1000)
        if rehearsal:
            await self._target.finish(self._files, marks, state="rehearsed", pause_ms=pause_ms)
            return
        await self._watching.refuse_writes(True)
        try:
            await self._target.finish(self._files, marks, state="done", pause_ms=pause_ms)
        except asyncpg.PostgresError as error:
            # Where the connection was lost it may be done, and then nothing may be written here.
            if not isinstance(error, asyncpg.PostgresConnectionError):
                await self._watching.refuse_writes(False)
            raise

    async def _check(self) -> None:
        for file in self._files:
            if file.generations() != self._generations[file.module]:
                raise MoveRefusedError(
                    f"A projection of {file.module!r} was rebuilt during the move. Nothing was "
                    "switched over, and writes go on. Run the move again when that has ended."
                )
        for module, tables in self._tables.items():
            for name, each in tables.items():
                source, target = await each.counts()
                sums = each.sums
                summed = (sums.source_rows, sums.source) == (sums.target_rows, sums.target)
                if not summed or not source == target == sums.source_rows:
                    raise MoveMismatchError(
                        f"{module}.{name} has {source:,} rows at the source and {target:,} in the "
                        f"target, with the sums {sums.source:016x} and {sums.target:016x}. Nothing "
                        "was switched over, and writes go on. Run the move again, which compares "
                        "every row."
                    )

    def _sums(self) -> list[TableSum]:
        return [
            TableSum(
                module=module,
                table=name,
                rows=each.sums.target_rows,
                checksum=f"{each.sums.target:016x}",
            )
            for module, tables in self._tables.items()
            for name, each in tables.items()
        ]


class _Progress:
    """How far a pass is, told once a second and at its end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._verb, self._what = "", ""
        self.rows = self.total = 0
        self._told = self._began = 0.0

    def begin(self, verb: str, copy: TableCopy) -> None:
        """Begin with a table."""
        self._verb, self._what, self.rows = verb, f"{copy.module}.{copy.name}", 0
        self._told = self._began = time.monotonic()

    def read(self, _: TableCopy, rows: int) -> None:
        """Count rows in."""
        self.rows += rows
        if time.monotonic() - self._told >= 1.0:
            self._told = time.monotonic()
            self._say(f"{self._what}: {self.rows:,} rows {self._verb}")

    def end(self) -> None:
        """End a table."""
        if self._verb == "copied":
            self.total += self.rows
        if self.rows:
            seconds = time.monotonic() - self._began
            self._say(f"{self._what}: {self.rows:,} rows {self._verb} in {seconds:.1f} s")


def _marks(directory: Path) -> list[str]:
    """What was done once on this data, such as its seed."""
    return [
        each.name
        for each in directory.iterdir()
        if each.is_file() and not each.suffix and each.name not in _NO_MARKS
    ]
