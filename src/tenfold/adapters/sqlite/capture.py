"""Which rows of a module's file are written while somebody copies it.

Triggers in the writer's own connection, of the kind that SQLite calls
temporary: they are in no file, and gone with the connection. They hand the
keys of every changed row to a set in memory. A row whose change was rolled back
is in it too, which only costs a second look.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tenfold.adapters.sqlite.session import Session

__all__ = ["Capture", "Changes"]

_FUNCTION: Final = "tenfold_changed"
_EVENTS: Final = (("insert", ("new",)), ("delete", ("old",)), ("update", ("old", "new")))
_MOST: Final = 2_000_000
Changes = set[tuple[Any, ...]]
"""Changed rows: the name of the table, then the values of its key."""


class Capture:
    """The changes of one module's file, as its writer makes them.

    Args:
        session: the platform's own work on the file.
        tables: the columns of a key of each table that is watched.
    """

    def __init__(self, session: Session, tables: Mapping[str, Sequence[str]]) -> None:
        self._session = session
        self._tables = dict(tables)
        self._changes: Changes = set()
        self.overflowed = False

    async def begin(self) -> None:
        """Watch from now on: what is committed after this returns is noted."""
        await self._session.write(self._watch)

    async def take(self, *, held: bool) -> Changes:
        """What was written since the last time. All of it has been committed, or rolled back.

        Args:
            held: whether the caller holds the file's write lock, so that no
                transaction can be open.
        """
        taken, self._changes = self._changes, set()
        if not held:
            # Whatever put its keys into the set stands before this in the writer's queue.
            await self._session.write(lambda _: None)
        return taken

    async def end(self) -> None:
        """Watch no more."""
        await self._session.write(self._leave)

    def _watch(self, connection: sqlite3.Connection) -> None:
        connection.create_function(_FUNCTION, -1, self._note)
        for number, (table, key) in enumerate(self._tables.items()):
            for event, rows in _EVENTS:
                calls = ", ".join(
                    f"{_FUNCTION}({', '.join([_text(table), *(f'{row}.{_q(k)}' for k in key)])})"
                    for row in rows
                )
                connection.execute(
                    f"CREATE TEMP TRIGGER {_FUNCTION}_{number}_{event} AFTER {event} "
                    f"ON main.{_q(table)} BEGIN SELECT {calls}; END"
                )

    def _leave(self, connection: sqlite3.Connection) -> None:
        for number in range(len(self._tables)):
            for event, _ in _EVENTS:
                connection.execute(f"DROP TRIGGER IF EXISTS temp.{_FUNCTION}_{number}_{event}")
        connection.create_function(_FUNCTION, -1, None)

    def _note(self, *changed: Any) -> None:
        changes = self._changes
        if len(changes) < _MOST:
            changes.add(changed)
        else:
            self.overflowed = True


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
