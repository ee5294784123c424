"""One table's rows: copied, compared, and brought up to date.

The state of a move is the data itself. What was copied before a move was
interrupted is found by its key and compared, and not copied again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import asyncpg

from tenfold.runtimes.moving.errors import MoveMismatchError, MoveRefusedError
from tenfold.runtimes.moving.tables import TableCopy, quoted
from tenfold.runtimes.moving.values import fingerprint

__all__ = ["Key", "Sums", "TableMove"]

Key = tuple[Any, ...]
"""The key of a row as the source has it."""
_T = TypeVar("_T")
_PAGE: Final = 2_000
_FEW: Final = 400
_MASK: Final = 2**64 - 1


class Sums:
    """How many rows each side has, and the sum of their fingerprints."""

    __slots__ = ("source", "source_rows", "target", "target_rows")

    def __init__(self) -> None:
        self.source = self.target = 0
        self.source_rows = self.target_rows = 0

    def at_source(self, row: list[Any] | None, sign: int = 1) -> None:
        """Count a row of the source's in, or with -1 out."""
        if row is not None:
            self.source = (self.source + sign * fingerprint(row)) & _MASK
            self.source_rows += sign

    def at_target(self, row: list[Any] | None, sign: int = 1) -> None:
        """Count a row of the target's in, or with -1 out."""
        if row is not None:
            self.target = (self.target + sign * fingerprint(row)) & _MASK
            self.target_rows += sign


class TableMove:
    """One table between a snapshot of its file and the target.

    `differing` are keys at which the last comparison found a difference, with
    what the source had there in the compared form.
    """

    def __init__(
        self,
        copy: TableCopy,
        source: sqlite3.Connection,
        target: asyncpg.Connection[Any],
        told: Callable[[TableCopy, int], None],
    ) -> None:
        self.copy = copy
        self.sums = Sums()
        self.differing: dict[Key, list[Any] | None] = {}
        self._source = source
        self._target = target
        self._told = told

    async def fill(self) -> bool:
        """Copy every row into a table that is empty; False where it is not.

        A page commits by itself.
        """
        if await self._target.fetchval(f"SELECT EXISTS (SELECT 1 FROM {self.copy.place})"):
            return False
        for page in _pages(self._every_row(), _PAGE):
            await self._insert([self.copy.record(raw) for raw in page])
            self._told(self.copy, len(page))
        return True

    async def compare(self) -> None:
        """Read all of both sides, sum them up, and note where they differ."""
        self.sums, self.differing = Sums(), {}
        matched = 0
        for page in _pages(self._every_row(), _PAGE):
            keys = [self.copy.key_of(raw) for raw in page]
            there = await self._at_target(keys)
            matched += len(there)
            for key, raw in zip(keys, page, strict=True):
                mine = self.copy.compared(self.copy.record(raw))
                self.sums.at_source(mine)
                other = there.get(self._compared_key(key))
                self.sums.at_target(other)
                if other != mine:
                    self.differing[key] = mine
            self._told(self.copy, len(page))
        count = await self._target.fetchval(f"SELECT count(*) FROM {self.copy.place}")
        if count != matched:
            await self._note_strangers()

    async def apply(self, keys: Iterable[Key], *, counted: bool) -> int:
        """Bring the target to what the source has at these keys, in one transaction.

        Args:
            counted: whether `compare` has summed up, so that the sums are kept.
        Returns: how many rows were changed.
        Raises: MoveMismatchError where the target did not take what it was given.
        """
        wanted: dict[Key, tuple[Any, ...] | None] = {}
        before: dict[Key, list[Any] | None] = {}
        for part in _pages(iter(dict.fromkeys(keys)), _FEW):
            rows = self._at_source(part)
            there = await self._at_target(part)
            for key in part:
                raw = rows.get(key)
                before[key] = there.get(self._compared_key(key))
                wanted[key] = None if raw is None else self.copy.record(raw)
        changed = [
            key
            for key, record in wanted.items()
            if before[key] != (None if record is None else self.copy.compared(record))
        ]
        async with self._target.transaction():
            await self._delete([key for key in changed if before[key] is not None])
            await self._insert([record for key in changed if (record := wanted[key]) is not None])
            after = await self._read_back(changed, before)
        for key, record in wanted.items():
            mine = None if record is None else self.copy.compared(record)
            if after[key] != mine:
                raise MoveMismatchError(
                    f"The target did not keep a row of {self.copy.module}.{self.copy.name} as it "
                    f"was given. Nothing was switched over. Its key is {key!r}: look at what "
                    "its columns' types or triggers do to it."
                )
            if counted:
                self._count(key, before[key], after[key], mine)
            self.differing.pop(key, None)
        return len(changed)

    async def counts(self) -> tuple[int, int]:
        """How many rows the source has that are copied, and how many the target."""
        text = f"SELECT count(*) FROM {quoted(self.copy.name)} WHERE {self.copy.keep}"
        (source,) = self._source.execute(text).fetchone()
        target = await self._target.fetchval(f"SELECT count(*) FROM {self.copy.place}")
        return int(source), int(target)

    def _count(
        self,
        key: Key,
        before: list[Any] | None,
        after: list[Any] | None,
        mine: list[Any] | None,
    ) -> None:
        # Where the sides did not differ, what the target had was what the source had.
        self.sums.at_source(self.differing.get(key, before), -1)
        self.sums.at_source(mine)
        self.sums.at_target(before, -1)
        self.sums.at_target(after)

    # -- the source

    @property
    def _select(self) -> str:
        columns = ", ".join(f"t.{quoted(name)}" for name in self.copy.columns)
        return f"SELECT {columns} FROM {quoted(self.copy.name)} AS t"

    def _every_row(self) -> Iterator[tuple[Any, ...]]:
        cursor = self._source.execute(f"{self._select} WHERE {self.copy.keep}")
        while rows := cursor.fetchmany(_PAGE):
            yield from rows

    def _at_source(self, keys: Sequence[Key]) -> dict[Key, tuple[Any, ...]]:
        names = self.copy.key_names
        one = f"({', '.join('?' * len(names))})"
        joined = " AND ".join(f"t.{quoted(k)} = v.column{n}" for n, k in enumerate(names, 1))
        # In this order SQLite looks each key up; its planner might else read the whole table.
        text = self._select.replace(
            " FROM ", f" FROM (VALUES {', '.join([one] * len(keys))}) AS v CROSS JOIN ", 1
        )
        rows = self._source.execute(
            f"{text} WHERE {joined} AND {self.copy.keep}", [value for key in keys for value in key]
        )
        return {self.copy.key_of(row): row for row in rows}

    # -- the target

    def _compared_key(self, key: Key) -> Key:
        return self._source_key(self.copy.key_record(key))

    @property
    def _given_keys(self) -> str:
        arrays = ", ".join(f"${n}::{type_}[]" for n, type_ in enumerate(self.copy.key_types, 1))
        names = ", ".join(f"k{n}" for n in range(len(self.copy.key)))
        return f"unnest({arrays}) AS v ({names})"

    @property
    def _by_key(self) -> str:
        return " AND ".join(
            f"t.{quoted(name)} = v.k{n}" for n, name in enumerate(self.copy.key_names)
        )

    def _arrays(self, keys: Iterable[Key]) -> list[list[Any]]:
        return [list(values) for values in zip(*map(self.copy.key_record, keys), strict=True)]

    async def _at_target(self, keys: Sequence[Key]) -> dict[Key, list[Any]]:
        columns = ", ".join(f"t.{quoted(name)}" for name in self.copy.columns)
        rows = await self._target.fetch(
            f"SELECT {columns} FROM {self._given_keys} JOIN {self.copy.place} AS t "
            f"ON {self._by_key}",
            *self._arrays(keys),
        )
        compared = [self.copy.compared(row) for row in rows]
        return {self.copy.key_of(row): row for row in compared}

    async def _note_strangers(self) -> None:
        """Rows of the target that the source does not have."""
        names = ", ".join(map(quoted, self.copy.columns))
        async with self._target.transaction():
            cursor = await self._target.cursor(f"SELECT {names} FROM {self.copy.place}")
            while rows := await cursor.fetch(_PAGE):
                keys = [self._source_key(self.copy.key_of(row)) for row in rows]
                there = self._at_source_in_parts(keys)
                for key, row in zip(keys, rows, strict=True):
                    if key not in there:
                        self.sums.at_target(self.copy.compared(row))
                        self.differing[key] = None

    def _at_source_in_parts(self, keys: Sequence[Key]) -> dict[Key, tuple[Any, ...]]:
        found: dict[Key, tuple[Any, ...]] = {}
        for part in _pages(iter(keys), _FEW):
            found |= self._at_source(part)
        return found

    def _source_key(self, key: Key) -> Key:
        # The compared form of a key is what SQLite has: bytes, microseconds, days, whole numbers.
        return tuple(
            [self.copy.canonical[at](value) for at, value in zip(self.copy.key, key, strict=True)]
        )

    async def _insert(self, records: Sequence[tuple[Any, ...]]) -> None:
        """Add rows. Raises MoveRefusedError naming the one that the target does not take."""
        if not records:
            return
        try:
            async with self._target.transaction():
                await self._add(records)
        except (asyncpg.PostgresConnectionError, OSError):
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError, TypeError, ValueError) as error:
            for record in records:
                await self._try(record)
            raise MoveRefusedError(
                f"Rows of {self.copy.module}.{self.copy.name} cannot be added together: {error}. "
                "Nothing was switched over. Run the move again."
            ) from error

    async def _add(self, records: Sequence[tuple[Any, ...]]) -> None:
        await self._target.copy_records_to_table(
            self.copy.name,
            schema_name=self.copy.module,
            columns=list(self.copy.columns),
            records=records,
        )

    async def _try(self, record: tuple[Any, ...]) -> None:
        """Add a row, to see whether it can be, and take it back."""
        trial = self._target.transaction()
        await trial.start()
        try:
            await self._add([record])
        except (asyncpg.PostgresError, asyncpg.InterfaceError, TypeError, ValueError) as error:
            raise MoveRefusedError(
                f"A row of {self.copy.module}.{self.copy.name} cannot be stored in PostgreSQL: "
                f"{error}. Nothing was switched over. Its key is {self.copy.key_of(record)!r}: "
                "change it at the source, and run the move again."
            ) from error
        finally:
            await trial.rollback()

    async def _delete(self, keys: Sequence[Key]) -> None:
        for part in _pages(iter(keys), _PAGE):
            await self._target.execute(
                f"DELETE FROM {self.copy.place} AS t USING {self._given_keys} WHERE {self._by_key}",
                *self._arrays(part),
            )

    async def _read_back(
        self, changed: Sequence[Key], before: dict[Key, list[Any] | None]
    ) -> dict[Key, list[Any] | None]:
        after = dict(before)
        for part in _pages(iter(changed), _PAGE):
            there = await self._at_target(part)
            for key in part:
                after[key] = there.get(self._compared_key(key))
        return after


def _pages(items: Iterator[_T], size: int) -> Iterator[list[_T]]:
    while page := list(islice(items, size)):
        yield page
