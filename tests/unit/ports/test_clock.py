"""The machine's clock and the identifiers that everything is known by."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import pytest

from tenfold.ports.clock import RandomIds, SystemClock


def test_the_machines_clock_tells_utc_and_never_goes_backwards() -> None:
    clock = SystemClock()
    before, now, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert before <= now <= after
    assert now.utcoffset() == timedelta(0)
    moments = [clock.monotonic() for _ in range(1_000)]
    assert moments == sorted(moments)


def test_uuids_are_of_version_7_with_the_bits_of_rfc_9562() -> None:
    before_ms = time.time_ns() // 1_000_000
    made = RandomIds().uuid()
    after_ms = time.time_ns() // 1_000_000
    assert made.int >> 76 & 0xF == 7
    assert made.int >> 62 & 0b11 == 0b10
    assert (made.version, made.variant) == (7, RFC_4122)
    assert before_ms <= made.int >> 80 <= after_ms


def test_uuids_are_unique_and_sort_as_they_were_made() -> None:
    ids = RandomIds()
    made = [ids.uuid() for _ in range(20_000)]
    assert len(set(made)) == len(made)
    assert made == sorted(made)
    assert [str(one) for one in made] == sorted(str(one) for one in made)


@pytest.mark.parametrize("step_ms", [0, -1], ids=["stands still", "goes back"])
def test_uuids_stay_in_order_when_the_clock(monkeypatch: pytest.MonkeyPatch, step_ms: int) -> None:
    now_ms = 1_700_000_000_000

    def time_ns() -> int:
        nonlocal now_ms
        now_ms += step_ms
        return now_ms * 1_000_000

    monkeypatch.setattr("tenfold.ports.clock.time.time_ns", time_ns)
    ids = RandomIds()
    made = [ids.uuid() for _ in range(10_000)]  # more than one millisecond's counter holds
    assert made == sorted(set(made))
    assert {one.version for one in made} == {7}
    assert made[-1].int >> 80 == (made[0].int >> 80) + 2


def test_two_makers_do_not_meet_and_one_seed_makes_the_same() -> None:
    assert RandomIds().hex(128) != RandomIds().hex(128)
    first, second = RandomIds(7), RandomIds(7)
    assert [first.hex(64), first.uniform()] == [second.hex(64), second.uniform()]


@pytest.mark.parametrize("bits", [16, 64, 128])
def test_numbers_in_hexadecimal_have_their_length_and_are_never_all_zeros(
    monkeypatch: pytest.MonkeyPatch, bits: int
) -> None:
    ids = RandomIds(1)
    assert all(len(ids.hex(bits)) == bits // 4 for _ in range(200))
    monkeypatch.setattr(ids, "_bits", lambda _: 0)
    assert ids.hex(bits) == "1".rjust(bits // 4, "0")


def test_jitter_is_in_its_bounds() -> None:
    ids = RandomIds(1)
    assert all(0 <= ids.uniform() < 1 for _ in range(1_000))
