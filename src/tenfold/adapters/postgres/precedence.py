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
from tenfold.ports.unit import Unit

__all__ = ["Precedence"]

LOSSES: Final = 4
"""After so many a unit of work goes first. By then chance has had its turn, within 0.1 s."""
_MOST_KEPT: Final = 1_000
_WAIT_MS: Final = 250


class _Losses:
    __slots__ = ("count", "tables")

    def __init__(self) -> None:
        self.count = 0
        self.tables: set[str] = set()


class Precedence:
    """Which messages of one module have lost how often in this process, and on which tables."""

    def __init__(self, schema: str, lock_timeout_s: float) -> None:
        """`schema` is quoted; `lock_timeout_s` is the connections' own."""
        self._schema = schema
        self._lock_timeout_ms = int(lock_timeout_s * 1000)
        self._lost: OrderedDict[tuple[str, str], _Losses] = OrderedDict()

    def note(self, unit: Unit, tables: Iterable[str]) -> None:
        """A unit of work lost, having written to these tables."""
        losses = self._lost.setdefault(_key(unit), _Losses())
        losses.count += 1
        losses.tables.update(tables)
        if len(self._lost) > _MOST_KEPT:
            self._lost.popitem(last=False)

    def lock(self, unit: Unit) -> str | None:
        """What lets a unit of work go first; None for one that waits like all others.

        Who waits for a table lets nobody pass who comes after, so it waits for a
        moment only, and rather loses once more.

        The tables are in the order of their names, so that two that go first
        wait for one another and not crosswise.
        """
        losses = self._lost.get(_key(unit)) if self._lost else None
        if losses is None or losses.count < LOSSES or not losses.tables:
            return None
        names = ", ".join(f"{self._schema}.{quoted(name)}" for name in sorted(losses.tables))
        return (
            f"SET LOCAL lock_timeout = {_WAIT_MS};"
            f" LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE;"
            f" SET LOCAL lock_timeout = {self._lock_timeout_ms}"
        )

    def forget(self, unit: Unit) -> None:
        """It has come to its end."""
        if self._lost:
            self._lost.pop(_key(unit), None)


def _key(unit: Unit) -> tuple[str, str]:
    """Several subscriptions of a module may have one message."""
    return unit.message_id, "" if unit.inbox is None else unit.inbox.handler
