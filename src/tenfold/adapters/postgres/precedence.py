"""Precedence: a unit of work that has lost again and again goes before the others.

    lost ── lost ── lost ── lost ──> LOCK TABLE ──> snapshot ──> statements ──> commit
                                     waits for who writes there, and makes the next ones wait

The server lets the first of two that contend commit, so that a long unit of work
beside many short ones on the same rows could lose for ever. From its fifth time
on one therefore locks the tables that it wrote before, ahead of its snapshot
(PostgreSQL's documentation of LOCK TABLE): who else writes there waits, loses
against it, and is begun again. Nobody pays for that but those who contend.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from tenfold.adapters.postgres.session import quoted

__all__ = ["Precedence"]

LOSSES: Final = 4
"""After so many a unit of work goes first. By then chance has had its turn, within 0.1 s."""
_MOST_KEPT: Final = 1_000


class _Losses:
    __slots__ = ("count", "tables")

    def __init__(self) -> None:
        self.count = 0
        self.tables: set[str] = set()


class Precedence:
    """Which messages of one module have lost how often in this process, and on which tables."""

    def __init__(self, schema: str) -> None:
        """`schema` is quoted."""
        self._schema = schema
        self._lost: OrderedDict[str, _Losses] = OrderedDict()

    def note(self, message_id: str, tables: Iterable[str]) -> None:
        """A unit of work of this message lost, having written to these tables."""
        losses = self._lost.setdefault(message_id, _Losses())
        losses.count += 1
        losses.tables.update(tables)
        if len(self._lost) > _MOST_KEPT:
            self._lost.popitem(last=False)

    def lock(self, message_id: str) -> str | None:
        """The statement that lets a message go first; None for one that waits like all others.

        The tables are in the order of their names, so that two that go first
        wait for one another and not crosswise.
        """
        losses = self._lost.get(message_id)
        if losses is None or losses.count < LOSSES or not losses.tables:
            return None
        names = ", ".join(f"{self._schema}.{quoted(name)}" for name in sorted(losses.tables))
        return f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"

    def forget(self, message_id: str) -> None:
        """A message has come to its end."""
        if self._lost:
            self._lost.pop(message_id, None)
