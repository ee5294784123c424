"""A backfill: what a revision says of it, its SQL, and how far it came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from tenfold.contracts.structs import Struct

__all__ = ["Backfill", "BackfillProgress", "BackfillTexts"]

_LITERALS: Final = {
    # The database itself writes the key's values as literals: of whatever type, exact, and safe.
    "sqlite": "quote({column})",
    "postgresql": "format('%L::%s', {column}, pg_typeof({column}))",
}


class Backfill(Struct):
    """New values for the rows that a table has already, a batch at a time.

    Said by a revision as `backfill = Backfill(...)`. The batches go through the
    table in the order of its key, each in a transaction of its own together with
    how far it came, so that one which was killed goes on where it was. When the
    last is done the revision's `upgrade()` runs, and the revision is applied.
    Its phase is `after` where it says none: only then does nobody write rows any
    more that lack the value.

    Args:
        table: whose rows are changed.
        key: the columns of its primary key, the tenant included.
        values: an SQL expression for each column that is set; by database
            (`{"sqlite": ..., "postgresql": ...}`) where one text does not serve both.
        where: only rows for which this SQL condition holds.
        batch: rows in one transaction, 1 to 100,000.
        pause_s: seconds between two batches, which the product's own work has.
    """

    table: str
    key: tuple[str, ...]
    values: Mapping[str, str | Mapping[str, str]]
    where: str = ""
    batch: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1_000
    pause_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.02


class BackfillProgress(Struct):
    """How far a backfill came. `total` is an estimate on PostgreSQL."""

    revision: str
    seen: int
    changed: int
    total: int
    ended: bool

    @property
    def said(self) -> str:
        """For people: `0003: 12,000 of about 40,000 rows (30 %)`."""
        if self.ended:
            return f"{self.revision}: done, {self.changed:,} rows changed"
        share = min(100 * self.seen // max(self.total, 1), 99)
        return f"{self.revision}: {self.seen:,} of about {self.total:,} rows ({share} %)"


class BackfillTexts:
    """The statements of one backfill for one database.

    Args:
        schema: the quoted name with its dot, or empty.
    """

    def __init__(self, backfill: Backfill, database: str, schema: str = "") -> None:
        self._table = f"{schema}{_quoted(backfill.table)}"
        self._key = ", ".join(map(_quoted, backfill.key))
        self._batch = backfill.batch
        self._bound = ", ".join(
            _LITERALS[database].format(column=_quoted(column)) for column in backfill.key
        )
        self._set = ", ".join(
            f"{_quoted(column)} = {said if isinstance(said, str) else _of(said, database)}"
            for column, said in backfill.values.items()
        )
        self._where = f" AND ({backfill.where})" if backfill.where else ""

    def end_after(self, last: str) -> str:
        """Selects the key, as literals, of the last row of the batch; none for the last batch."""
        return (
            f"SELECT {self._bound} FROM {self._table} WHERE {self._above(last)} "
            f"ORDER BY {self._key} LIMIT 1 OFFSET {self._batch - 1}"
        )

    def change(self, last: str, end: str) -> str:
        """Changes one batch: the rows behind `last`, up to `end` or, where it is empty, to the end.

        Both are lists of literals, as `end_after` gave them.
        """
        upper = f" AND ({self._key}) <= ({end})" if end else ""
        return f"UPDATE {self._table} SET {self._set} WHERE {self._above(last)}{upper}{self._where}"

    def count(self) -> str:
        """Counts the rows behind nothing: all of them."""
        return f"SELECT count(*) FROM {self._table}"

    def _above(self, last: str) -> str:
        return f"({self._key}) > ({last})" if last else "true"


def _of(said: Mapping[str, str], database: str) -> str:
    return said[database]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
