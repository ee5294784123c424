"""Folding: what goes together into one statement, and what must not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import bindparam, exists, select

from tenfold.adapters.postgres.folding import Folding, Step
from tenfold.adapters.postgres.planner import Planner
from tenfold.ports.clock import SystemClock
from tenfold.ports.unit import BufferedWrite, Unit
from tests.unit.postgres.bench import (
    ADD,
    ADD_PART,
    PARTS,
    THINGS,
    WIDEN,
    entry,
    event,
    inbox,
    reply_key,
)

WIDEN_IF_IN_PARTS = (
    THINGS.update()
    .where(THINGS.c.name == bindparam("name"))
    .where(exists(select(PARTS.c.name).where(PARTS.c.thing == bindparam("name"))))
    .values(size=1)
)
PARAMETERS: dict[Any, dict[str, Any]] = {
    ADD: {"name": "a", "size": 1},
    ADD_PART: {"name": "p", "thing": "a"},
    WIDEN: {"name": "a", "by": 1},
    WIDEN_IF_IN_PARTS: {"name": "a"},
}


def folding(offset: int = 0) -> Folding:
    planner = Planner(module="shed", scoped=True, projections={}, schema="shed")
    return Folding('"shed"', planner, offset)


def unit(*statements: Any, events: int = 0, entries: int = 0) -> Unit:
    made = Unit("m", "main", 0.0)
    made.events = [event(f"e{n}") for n in range(events)]
    made.entries = [entry() for _ in range(entries)]
    made.buffered = [
        BufferedWrite(statement=each, parameters=PARAMETERS[each], refuse={}) for each in statements
    ]
    return made


def steps(folder: Folding, made: Unit, reply: bytes | None = None) -> list[Step]:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    return folder.steps(made, {}, reply=reply, head=7, now=now)


def test_writes_on_different_tables_go_with_the_records() -> None:
    made = unit(ADD, ADD_PART, events=1, entries=1)
    made.inbox, made.fence = inbox(), 3
    (only,) = steps(folding(), made)
    assert only.text.count("INSERT INTO") == 5
    for table in ("things", "parts", "tenfold_outbox", "tenfold_queue", "tenfold_inbox"):
        assert table in only.text
    assert "tenfold_fail('fence')" in only.text
    assert not only.many


def test_a_write_that_reads_what_an_earlier_one_writes_comes_after_it() -> None:
    first, second = steps(folding(), unit(ADD_PART, WIDEN_IF_IN_PARTS))
    assert "parts" in first.text
    assert "things" in second.text


def test_writes_on_one_table_go_one_after_the_other() -> None:
    first, second = steps(folding(), unit(ADD, WIDEN, events=1))
    assert "INSERT" in first.text
    assert "UPDATE" in second.text
    assert "tenfold_outbox" in second.text


def test_one_write_again_and_again_is_sent_at_once() -> None:
    many, last = steps(folding(), unit(ADD, ADD, ADD, events=2))
    assert many.many
    assert len(many.values) == 3
    assert "tenfold_outbox" in last.text
    (alone,) = steps(folding(), unit(ADD, ADD))
    assert alone.many


def test_a_unit_of_nothing_has_no_steps() -> None:
    assert steps(folding(), unit()) == []


def test_a_text_is_put_together_once_for_each_shape() -> None:
    folder = folding()
    one = steps(folder, unit(ADD, events=2))[0].text
    assert steps(folder, unit(ADD, events=9))[0].text is one
    assert steps(folder, unit(ADD, events=1))[0].text != one


def test_positions_go_on_where_a_restored_log_was() -> None:
    assert "+ 5000)" in steps(folding(5000), unit(events=1))[0].text


@given(
    st.lists(st.sampled_from(list(PARAMETERS)), max_size=6),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
)
def test_every_write_is_sent_once_in_order_and_its_values_fit_its_text(
    statements: list[Any], events: int, entries: int, keyed: bool, received: bool
) -> None:
    made = unit(*statements, events=events, entries=entries)
    if received:
        made.inbox, made.fence = inbox(), 3
    if keyed:
        made.reply_key = reply_key(SystemClock())
    sent = steps(folding(), made, b"r" if keyed else None)
    assert [id(write) for step in sent for write in step.writes] == list(map(id, made.buffered))
    for step in sent:
        rows = step.values if step.many else [step.values]
        for row in rows:
            numbers = {n for n in range(1, len(row) + 2) if _has(step.text, n)}
            assert numbers == set(range(1, len(row) + 1))


def _has(text: str, number: int) -> bool:
    at = text.find(f"${number}")
    while at >= 0:
        after = text[at + len(f"${number}") : at + len(f"${number}") + 1]
        if not after.isdigit():
            return True
        at = text.find(f"${number}", at + 1)
    return False
