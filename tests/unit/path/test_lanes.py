"""What is worked in order: one lane for each subscriber and key."""

from __future__ import annotations

from datetime import UTC, datetime

from tenfold.path.carrying import decide_entries
from tenfold.path.relay import Feed
from tenfold.ports.records import OutboxRow
from tenfold.ports.transfer import Follower


def follower(handler: str, event: str) -> Follower:
    return Feed(handler=handler, source="orders", events=(event,)).follower


def row(seq: int, name: str, order_key: str | None) -> OutboxRow:
    return OutboxRow(
        seq=seq,
        message_id=f"m{seq}",
        name=name,
        tenant="main",
        order_key=order_key,
        at=datetime(2026, 11, 20, tzinfo=UTC),
        body=b"",
    )


def test_handlers_of_one_projection_share_the_lane_of_a_key() -> None:
    followers = [
        follower("history.placed", "orders.Placed"),
        follower("history.confirmed", "orders.Confirmed"),
    ]
    rows = [row(1, "orders.Placed", "o1"), row(2, "orders.Confirmed", "o1")]
    first, second = decide_entries("orders", followers, rows)
    assert (first.handler, second.handler) == ("history.placed", "history.confirmed")
    assert first.lane == second.lane


def test_keys_and_subscriptions_do_not_share_lanes() -> None:
    followers = [follower("reserve", "orders.Placed"), follower("history.placed", "orders.Placed")]
    rows = [row(1, "orders.Placed", "o1"), row(2, "orders.Placed", "o2")]
    entries = decide_entries("orders", followers, rows)
    assert len({entry.lane for entry in entries}) == 4


def test_an_event_without_a_key_has_no_lane() -> None:
    (entry,) = decide_entries(
        "orders", [follower("reserve", "orders.Placed")], [row(1, "orders.Placed", None)]
    )
    assert entry.lane is None
