"""What the journey says of a request, and what its judge says of a store that broke a promise."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from benchmarks.journey.figures import Stretch, decide_failures, decide_figures, seen_pause
from benchmarks.journey.judging import Held, decide_complaints
from benchmarks.journey.record import Asked, Try
from store.invariants import Books
from store.inventory.contract import StockLevel
from store.orders.contract import OrderCounts
from tenfold import Money

MOVE = Stretch("move", 10.0, 20.0, pause=(14.0, 16.0))
QUIET = Stretch("scale", 20.0, 30.0)


def asked(due_s: float, *tries: tuple[float, float, str], **more: Any) -> Asked:
    return Asked("product", due_s, [Try(*each) for each in tries], **more)


def test_latency_counts_from_when_a_request_was_due() -> None:
    journal = [asked(21.0, (23.0, 23.5, "")), *(asked(22.0, (22.0, 22.1, "")) for _ in range(99))]
    found = decide_figures(QUIET, journal)
    assert (found.longest_ms, round(found.p50_ms), round(found.p99_ms)) == (2500, 100, 2500)
    assert (found.requests, found.per_s, found.availability) == (100, 10.0, 1.0)


def test_who_is_turned_away_in_the_declared_pause_and_answered_then_has_not_failed() -> None:
    journal = [
        asked(13.9, (13.9, 14.2, "503"), (14.5, 14.6, "503"), (15.0, 15.1, "")),
        asked(12.0, (12.0, 12.1, "")),
    ]
    found = decide_figures(MOVE, journal)
    assert (found.paused, found.failed, found.availability) == (1, 0, 0.5)
    assert decide_failures([MOVE, QUIET], journal) == []
    assert seen_pause(MOVE, journal) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "failed",
    [
        asked(12.0, (12.0, 12.1, "503"), (15.0, 15.1, "")),  # before the pause
        asked(15.9, (15.9, 16.5, "503"), (17.0, 17.1, "")),  # after it
        asked(15.0, (15.0, 15.1, "503")),  # in it, and never answered
        asked(15.0, (15.0, 15.1, ""), wrong="another product"),  # answered, and not so
        asked(21.0, (21.0, 21.1, "503"), (21.5, 21.6, "")),  # where no pause was declared
    ],
)
def test_every_other_request_that_is_turned_away_has_failed(failed: Asked) -> None:
    stretch = MOVE if MOVE.has(failed) else QUIET
    found = decide_figures(stretch, [failed])
    assert (found.paused, found.failed, found.availability) == (0, 1, 0.0)
    (told,) = decide_failures([MOVE, QUIET], [failed])
    assert told.startswith(f"1 x {stretch.name}: product was told: {failed.wrong or '503'}")


def test_between_the_phases_nothing_is_excused() -> None:
    assert decide_failures([MOVE], [asked(30.0, (30.0, 30.1, "503"), (31.0, 31.1, ""))])


ORDER: dict[str, Any] = {
    "id": str(UUID(int=1)),
    "customer_id": "walker-1",
    "lines": [],
    "total": 5,
    "placed_at": 1,
}
TOLD = Asked("place", 11.0, [Try(11.0, 11.1)], key="k", told={**ORDER, "status": "placed"})
HELD = Held(
    orders={ORDER["id"]: {**ORDER, "status": "confirmed"}},
    books=Books(
        levels=[StockLevel(product_id=UUID(int=9), received=3, free=1, reserved=0, sold=2)],
        captured=[Money.from_minor(500, "GBP")],
        confirmed=[Money.from_minor(500, "GBP")],
        counts=OrderCounts(placed=0, confirmed=2, rejected=0),
        unsettled_payments=0,
        mails=2,
    ),
    sold={"GBP": 500},
    dead=0,
    charged={"GBP": 500},
    twice=[],
)


def test_a_store_that_kept_its_promises_is_not_complained_of() -> None:
    assert decide_complaints([TOLD], HELD, before=1) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"orders": {ORDER["id"]: None}}, "was acknowledged and is gone"),
        ({"orders": {ORDER["id"]: {**ORDER, "total": 6, "status": "confirmed"}}}, "has total=6"),
        ({"orders": {ORDER["id"]: {**ORDER, "status": "rejected"}}}, "ended rejected"),
        ({"charged": {"GBP": 505}}, "the provider took"),
        ({"twice": ["o"]}, "more than once"),
        ({"sold": {"GBP": 1}}, "daily sales say"),
        ({"dead": 1}, "were given up"),
        ({"books": msgspec.structs.replace(HELD.books, mails=1)}, "1 confirmations were sent"),
    ],
)
def test_every_broken_promise_is_told(changed: dict[str, Any], said: str) -> None:
    (told,) = decide_complaints([TOLD], msgspec.structs.replace(HELD, **changed), before=1)
    assert said in told


def test_orders_that_nobody_placed_or_that_are_told_twice_are_told() -> None:
    (more,) = decide_complaints([TOLD], HELD, before=0)
    assert more == "2 orders came in on the way; 1 were told, 0 may be"
    again = msgspec.structs.replace(TOLD, key="other")
    found = decide_complaints([TOLD, again], HELD, before=0)
    assert found == [f"order {ORDER['id']} was told for 2 keys"]


def test_who_was_told_of_no_outcome_may_have_ordered() -> None:
    lost = Asked("place", 12.0, [Try(12.0, 42.0, "no answer")], key="lost")
    assert decide_complaints([TOLD, lost], HELD, before=0) == []
    assert decide_complaints([TOLD, lost], HELD, before=1) == []
