"""Position tokens: what is merged, and how new reads must be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.errors import StoreUnavailableError
from tenfold.path.positions import Positions, merge_tokens, read_token
from tenfold.ports.replicas import Freshness

TOKENS = st.dictionaries(
    st.sampled_from(["orders", "catalog", "DBa1"]),
    st.tuples(st.just("e"), st.integers(0, 10**17)),
    min_size=1,
).map(lambda parts: ",".join(f"{n}.{e}.{p}" for n, (e, p) in parts.items()))


@given(TOKENS, TOKENS)
def test_a_merged_token_is_at_least_as_new_as_both(one: str, other: str) -> None:
    merged = merge_tokens(one, other)
    assert merged is not None
    parts = read_token(merged)
    for token in (one, other):
        for name, (_, position) in read_token(token).items():
            assert parts[name][1] >= position
    assert len(parts) <= len(read_token(one)) + len(read_token(other))


def test_the_second_epoch_is_the_present_one() -> None:
    assert merge_tokens("orders.old.9", "orders.new.1") == "orders.new.1"


def test_nothing_merged_with_something_is_that() -> None:
    assert merge_tokens(None, "a.e.1") == "a.e.1"
    assert merge_tokens("a.e.1", None) == "a.e.1"
    assert merge_tokens(None, None) is None


class Servers:
    server = "a1"
    timeline = 3

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    async def written(self) -> int:
        if self.fails:
            raise StoreUnavailableError("away")
        return 700

    async def seen(self, freshness: Freshness) -> int:
        if self.fails:
            raise StoreUnavailableError("away")
        return max(freshness.needed or 0, 650)


def positions(servers: Servers | None) -> Positions:
    return Positions({"orders": "e"}, {}, servers)


@pytest.mark.anyio
async def test_a_command_answers_with_both_places_and_what_was_seen_before() -> None:
    token = await positions(Servers()).after_commit("orders", 5, "DBa1.3.900,catalog.x.2")
    assert read_token(token or "") == {
        "DBa1": ("3", 900),
        "catalog": ("x", 2),
        "orders": ("e", 5),
    }


@pytest.mark.anyio
async def test_a_place_that_cannot_be_asked_leaves_only_the_primary() -> None:
    made = positions(Servers(fails=True))
    token = await made.after_commit("orders", 5, None)
    freshness = await made.freshness(token)
    assert freshness is not None
    assert freshness.needed is None


@pytest.mark.anyio
async def test_a_place_of_another_timeline_leaves_only_the_primary() -> None:
    freshness = await positions(Servers()).freshness("DBa1.2.10")
    assert freshness is not None
    assert freshness.needed is None


@pytest.mark.anyio
async def test_who_does_not_say_what_it_has_seen_sees_all_that_is_committed() -> None:
    freshness = await positions(Servers()).freshness(None)
    assert freshness is not None
    assert freshness.needed == 700


@pytest.mark.anyio
async def test_while_the_primary_is_away_a_caller_without_a_token_reads_what_a_replica_has() -> (
    None
):
    freshness = await positions(Servers(fails=True)).freshness("orders.e.1")
    assert freshness is not None
    assert freshness.needed == 0


@pytest.mark.anyio
async def test_a_query_that_read_nothing_changes_no_token() -> None:
    made = positions(Servers())
    assert await made.after_read("orders.e.1", await made.freshness("orders.e.1")) == "orders.e.1"


@pytest.mark.anyio
async def test_a_query_says_how_new_its_answer_was() -> None:
    made = positions(Servers())
    freshness = await made.freshness("DBa1.3.600")
    assert freshness is not None
    freshness.touched.add("replica")
    assert await made.after_read("DBa1.3.600", freshness) == "DBa1.3.650"


@pytest.mark.anyio
async def test_an_answer_that_is_there_is_given_though_nobody_can_say_how_new_it_was() -> None:
    made = positions(Servers(fails=True))
    freshness = Freshness(600)
    freshness.touched.add("replica")
    token = await made.after_read("DBa1.3.600,orders.e.2", freshness)
    again = await made.freshness(token)
    assert again is not None
    assert again.needed is None  # only the primary surely has what was shown
    assert read_token(token or "")["orders"] == ("e", 2)


@pytest.mark.anyio
async def test_who_was_sent_to_the_primary_once_is_not_sent_there_for_ever() -> None:
    pinned = await positions(Servers(fails=True)).after_commit("orders", 5, None)
    made = positions(Servers())
    freshness = await made.freshness(pinned)
    assert freshness is not None
    freshness.touched.add("primary")
    after = await made.after_read(pinned, freshness)
    assert read_token(after or "") == {"DBa1": ("3", 650), "orders": ("e", 5)}
    after = await made.after_commit("orders", 6, pinned)
    assert read_token(after or "") == {"DBa1": ("3", 700), "orders": ("e", 6)}


@pytest.mark.anyio
async def test_without_replicas_nothing_is_asked() -> None:
    assert await positions(None).freshness("DBa1.3.600") is None


class Away:
    """A projection's progress that is kept where nobody can ask."""

    async def reached(self, projection: str, source: str, position: int) -> bool:
        raise StoreUnavailableError("away")

    async def wait(self) -> None:
        raise AssertionError("nobody waits for that")


@pytest.mark.anyio
async def test_a_projection_whose_progress_cannot_be_asked_may_be_behind() -> None:
    asked: Any = SimpleNamespace(
        module=SimpleNamespace(name="insights"),
        spec=SimpleNamespace(declaration=SimpleNamespace(projections=("sales",))),
    )
    made = Positions({"orders": "e"}, {"insights": Away()}, Servers())
    assert not await made.reached(asked, "orders.e.7")
