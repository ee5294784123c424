"""Packs: whatever publishers repeat, a reader of all partitions sees each event once, in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.path.packs import (
    Mark,
    Packable,
    Plan,
    decide_packs,
    decide_passage,
    halves,
    mark_headers,
    read_mark,
)
from tenfold.path.publishing import decide_begin, topic_of


def events(*seqs: int, size: int = 10) -> list[Packable]:
    return [Packable(seq=n, key=f"k{n % 5}", body=b"x" * size) for n in seqs]


@given(
    gaps=st.lists(st.integers(1, 4), max_size=40),
    tail=st.integers(0, 3),
    after=st.integers(0, 50),
    partitions=st.integers(1, 6),
    max_bytes=st.integers(1, 120),
)
def test_every_partition_gets_its_whole_stretch_and_every_event_one_place(
    gaps: list[int], tail: int, after: int, partitions: int, max_bytes: int
) -> None:
    seqs = [after + sum(gaps[: n + 1]) for n in range(len(gaps))]
    upto = (seqs[-1] if seqs else after) + tail
    rows = events(*seqs)
    plans = decide_packs(rows, after, upto, partitions, max_bytes)
    assert len(plans) == partitions
    placed: list[int] = []
    where: dict[str, int] = {}
    for partition, packs in enumerate(plans):
        assert packs  # an empty stretch is told too
        reached = after
        for pack in packs:
            assert pack.after == reached
            assert all(pack.after < rows[n].seq <= pack.upto for n in pack.events)
            assert len(pack.events) == 1 or sum(11 for _ in pack.events) + 2 <= max(max_bytes, 2)
            assert list(pack.events) == sorted(pack.events)
            reached = pack.upto
            placed += pack.events
            for n in pack.events:
                assert where.setdefault(rows[n].key, partition) == partition
        assert reached == upto
    assert sorted(placed) == list(range(len(rows)))


def test_an_event_larger_than_a_pack_travels_alone() -> None:
    rows = events(1, 2, 3, size=100)
    (packs,) = decide_packs(rows, 0, 3, 1, 50)
    assert [pack.events for pack in packs] == [(0,), (1,), (2,)]
    assert [(pack.after, pack.upto) for pack in packs] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize(
    ("reached", "after", "upto", "passage"),
    [
        (0, 0, 5, "new"),
        (5, 0, 5, "old"),
        (7, 0, 5, "old"),
        (3, 0, 5, "new"),  # a publisher that repeats, with more
        (5, 5, 6, "new"),
        (4, 5, 6, "gap"),
        (5, 5, 5, "old"),
    ],
)
def test_a_pack_is_known_by_its_stretch(reached: int, after: int, upto: int, passage: str) -> None:
    assert decide_passage(reached, 3, Mark(epoch="e", after=after, upto=upto, of=3)) == passage


@pytest.mark.parametrize(("reached", "passage"), [(4, "grown"), (5, "old")])
def test_a_pack_that_is_one_of_more_than_are_read_is_told(reached: int, passage: str) -> None:
    assert decide_passage(reached, 3, Mark(epoch="e", after=4, upto=5, of=4)) == passage


def test_a_pack_of_several_events_is_parted_into_two() -> None:
    rows = events(2, 4, 6, 8, 10)
    plan = Plan(after=1, upto=12, events=(0, 1, 3))
    assert halves(plan, rows) == [
        Plan(after=1, upto=2, events=(0,)),
        Plan(after=2, upto=12, events=(1, 3)),
    ]


def test_a_mark_travels_in_headers() -> None:
    mark = Mark(epoch="e", after=3, upto=9, of=4)
    assert read_mark({**mark_headers(mark), "content-type": "x"}) == mark


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"epoch": "", "after": "1", "upto": "2", "of": "3"},
        {"epoch": "e", "after": "-1", "upto": "2", "of": "3"},
        {"epoch": "e", "after": "1", "of": "3"},
        {"epoch": "e", "after": "1", "upto": "2"},
        {"epoch": "e", "after": "1", "upto": "x", "of": "3"},
    ],
)
def test_what_has_no_mark_is_not_ours(headers: dict[str, str]) -> None:
    assert read_mark(headers) is None


def mark(upto: int, epoch: str = "e") -> Mark:
    return Mark(epoch=epoch, after=0, upto=upto, of=2)


@pytest.mark.parametrize(
    ("stored", "kept", "fresh", "begin"),
    [
        (0, [None, None], True, 0),
        (90, [None, None], True, 0),  # a broker that was made anew
        (90, [mark(90), mark(90)], False, 90),
        (80, [mark(90), mark(90)], False, 90),  # killed before it wrote its position down
        (90, [mark(90), mark(70)], False, 70),  # the broker lost what it had acknowledged
        (90, [mark(90), None], False, 90),
        (60, [mark(90), None], False, 60),
        (90, [None, None], False, 90),  # all trimmed by age
        (90, [mark(500, "old"), mark(500, "old")], False, 0),  # the database was made anew
        (90, [mark(500, "old"), mark(40)], False, 40),
    ],
)
def test_a_publisher_begins_where_every_partition_has_everything(
    stored: int, kept: list[Mark | None], fresh: bool, begin: int
) -> None:
    assert decide_begin(stored, kept, fresh, "e") == begin


def test_a_topic_has_a_name_that_every_broker_takes() -> None:
    assert topic_of("Ärger & Co.", "orders") == "-rger---Co-.orders"
