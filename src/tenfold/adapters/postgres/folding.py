"""What a unit of work has gathered, as few statements as it can be.

Writes on different tables, the events, the queue entries, the inbox row and the
reply go out as one statement of data-modifying expressions. All of them see the
state from before it, so what touches a table that an earlier write has touched
goes into a statement of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Table
from sqlalchemy.sql.visitors import iterate

from tenfold.adapters.postgres import records
from tenfold.adapters.postgres.errors import UnitTooLargeError
from tenfold.adapters.postgres.planner import Plan, Planner
from tenfold.ports.unit import BufferedWrite, Unit

__all__ = ["Folding", "Step"]

_KEPT = 512
_MOST_RUNS = 32
"""Of a shape whose texts are kept: a loop over several statements makes endless ones."""


class Step:
    """One statement to be sent: once, or for each tuple of `values` where it is for `many`.

    `writes` are those that the handler handed over.
    """

    __slots__ = ("many", "text", "values", "writes")

    def __init__(self, text: str, values: Any, *, many: bool, writes: list[BufferedWrite]) -> None:
        self.text = text
        self.values = values
        self.many = many
        self.writes = writes


class _Text:
    """The text of a step, and how many of the runs of writes it takes."""

    __slots__ = ("many", "runs", "text")

    def __init__(self, text: str, runs: int, *, many: bool) -> None:
        self.text = text
        self.runs = runs
        self.many = many


class _Run:
    """Writes of one plan, one after another."""

    __slots__ = ("plan", "values", "writes")

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.values: list[tuple[Any, ...]] = []
        self.writes: list[BufferedWrite] = []


class Folding:
    """Folds the units of work of one module. Texts are put together once for each shape."""

    def __init__(self, schema: str, planner: Planner, xid_offset: int) -> None:
        """`schema` is quoted; `xid_offset` as in `tenfold_meta`."""
        self._schema = schema
        self._planner = planner
        self._xid_offset = xid_offset
        self._kept: OrderedDict[Any, list[_Text]] = OrderedDict()

    def tables(self, buffered: Iterable[BufferedWrite]) -> set[str]:
        """The tables that buffered writes are for, as they are declared."""
        return {name for write in buffered for name in self._planner.plan(write.statement).tables}

    def writes(
        self, buffered: Sequence[BufferedWrite], tenant: str, generations: Mapping[str, int]
    ) -> list[Step]:
        """The steps of buffered writes alone, for a read that follows them."""
        runs = self._runs(buffered, tenant)
        texts = self._texts(runs, generations, None)
        return _steps(texts, runs, ())

    def steps(
        self,
        unit: Unit,
        generations: Mapping[str, int],
        *,
        reply: bytes | None,
        head: int,
        now: datetime | None,
    ) -> list[Step]:
        """The steps that end a unit of work; the last one answers with the new position.

        Args:
            reply: what a keyed command answers, encoded.
            head: the position where the unit has no events.
            now: None for the store's own clock.
        """
        events, entries = unit.events, unit.entries
        if len(events) > records.MOST_EVENTS:
            raise UnitTooLargeError(
                f"A handler published {len(events):,} events in one unit of work, and "
                f"{records.MOST_EVENTS:,} is the most. Nothing was committed. Publish them from "
                "several jobs."
            )
        runs = self._runs(unit.buffered, unit.tenant)
        shape = (
            min(len(events), 2),
            min(len(entries), 2),
            unit.inbox is not None,
            unit.fence is not None,
            reply is not None,
            unit.place is not None,
        )
        texts = self._texts(runs, generations, shape)
        values: tuple[Any, ...] = ()
        if events:
            values += records.events_values(events)
        if entries:
            values += records.entries_values(entries, now)
        if unit.inbox is not None:
            values += records.inbox_values(unit.inbox, now)
        if reply is not None and unit.reply_key is not None:
            values += records.reply_values(unit.reply_key, reply, None if events else head)
        if unit.place is not None:
            values += records.place_values(unit.place)
        if unit.fence is not None:
            values += (unit.fence,)
        return _steps(texts, runs, values)

    def _runs(self, buffered: Sequence[BufferedWrite], tenant: str) -> list[_Run]:
        runs: list[_Run] = []
        for write in buffered:
            plan = self._planner.plan(write.statement)
            if not runs or runs[-1].plan.shape is not plan.shape:
                runs.append(_Run(plan))
            runs[-1].values.append(plan.values(write.parameters, tenant))
            runs[-1].writes.append(write)
        return runs

    def _texts(
        self,
        runs: list[_Run],
        generations: Mapping[str, int],
        shape: tuple[Any, ...] | None,
    ) -> list[_Text]:
        if len(runs) > _MOST_RUNS:
            return self._put_together(runs, generations, shape)
        key = (
            shape,
            *[(run.plan.shape, run.plan.text(generations), len(run.writes) > 1) for run in runs],
        )
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = self._put_together(runs, generations, shape)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return kept

    def _put_together(
        self, runs: list[_Run], generations: Mapping[str, int], shape: tuple[Any, ...] | None
    ) -> list[_Text]:
        made: list[_Text] = []
        together: list[_Run] = []
        touched: set[str] = set()

        def close() -> None:
            if together:
                made.append(self._fold(together, generations, None))
                together.clear()
                touched.clear()

        for run in runs:
            tables = _touched(run)
            if len(run.writes) > 1:
                close()
                made.append(_Text(run.plan.text(generations), 1, many=True))
                continue
            if touched & tables:
                close()
            together.append(run)
            touched |= tables
        if shape is None or not any(shape):
            close()
        else:
            made.append(self._fold(together, generations, shape))
        return made

    def _fold(
        self, runs: list[_Run], generations: Mapping[str, int], shape: tuple[Any, ...] | None
    ) -> _Text:
        if shape is None and len(runs) == 1:
            return _Text(runs[0].plan.text(generations), 1, many=False)
        schema = self._schema
        numbers = records.Numbers(0)
        parts: list[str] = []
        for run in runs:
            parts.append(run.plan.text(generations, numbers.used))
            numbers.used += run.plan.width
        answers: list[str] = []
        if shape is not None:
            events, entries, inbox, fence, reply, place = shape
            position = None
            if events:
                text, position = records.events_sql(
                    schema, numbers, many=events > 1, xid_offset=self._xid_offset
                )
                parts.append(text)
            if entries:
                parts.append(records.entries_sql(schema, numbers, many=entries > 1))
            if inbox:
                parts.append(records.inbox_sql(schema, numbers))
            if reply:
                parts.append(records.reply_sql(schema, numbers, position))
            answers.append("0" if position is None else position)
            if place:
                answers.append(records.place_sql(schema, f"w{len(parts)}"))
                parts.append(records.move_sql(schema, numbers))
            if fence:
                answers.append(records.fence_sql(schema, numbers))
        else:
            answers.append("0")
        named = ", ".join(f"w{at} AS ({part})" for at, part in enumerate(parts))
        return _Text(f"WITH {named} SELECT {', '.join(answers)}", len(runs), many=False)


def _steps(texts: list[_Text], runs: list[_Run], last: tuple[Any, ...]) -> list[Step]:
    made: list[Step] = []
    at = 0
    for text in texts:
        mine = runs[at : at + text.runs]
        at += text.runs
        if text.many:
            made.append(Step(text.text, mine[0].values, many=True, writes=mine[0].writes))
            continue
        values: tuple[Any, ...] = ()
        for run in mine:
            values += run.values[0]
        made.append(
            Step(
                text.text,
                values + last if text is texts[-1] else values,
                many=False,
                writes=[run.writes[0] for run in mine],
            )
        )
    return made


def _touched(run: _Run) -> set[str]:
    """The tables that a write reads or writes."""
    found = set(run.plan.tables)
    for element in iterate(run.writes[0].statement):
        if isinstance(element, Table):
            found.add(element.name)
    return found
