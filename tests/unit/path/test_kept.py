"""What is decided about kept answers."""

from __future__ import annotations

import pytest

from tenfold.path.fills import ModuleReach, reach_of
from tenfold.path.kept import Kept, Life, decide_covered, decide_early, decide_use

LIFE = Life(60.0, 600.0)


def kept(covers: str | None, *reach: str) -> Kept:
    return Kept(b"", 0.1, covers, None, 0, reach)


@pytest.mark.parametrize(
    ("covers", "token", "verdict"),
    [
        (None, None, "covered"),
        ("shop.e.5", None, "covered"),
        ("shop.e.5", "shop.e.5", "covered"),
        ("shop.e.5", "shop.e.4", "covered"),
        ("shop.e.5", "shop.e.6", "older"),
        ("shop.e.5", "shop.other.4", "older"),
        ("shop.e.5", "elsewhere.e.99", "covered"),
        (None, "shop.e.1", "older"),
        ("shop.e.5", "shop.e.5,DBx.1.7", "place"),
        ("shop.e.5,DBx.1.9", "shop.e.5,DBx.1.7", "covered"),
        ("shop.e.5,DBx.1.9", "shop.e.6,DBx.1.10", "older"),
        ("shop.e.5,DBx.1.9", "DBy.1.10", "covered"),
        ("shop.e.5,DBx.1.9", "shop.e.5,DBx.2.7", "place"),
        ("shop.e.5", "nonsense", "covered"),
    ],
)
def test_an_answer_covers_what_its_caller_has_seen(
    covers: str | None, token: str | None, verdict: str
) -> None:
    assert decide_covered(kept(covers, "shop", "DBx"), token) == verdict


def test_an_answer_is_old_when_only_its_grace_is_left() -> None:
    assert decide_use(LIFE, 600.1) == "fresh"
    assert decide_use(LIFE, 600.0) == "old"
    assert decide_use(LIFE, 3.0) == "old"


def test_the_nearer_the_end_and_the_dearer_the_sooner_it_is_computed_anew() -> None:
    chances = [n / 1000 for n in range(1000)]

    def early(left_s: float, cost_s: float) -> int:
        return sum(decide_early(LIFE, 600 + left_s, cost_s, chance) for chance in chances)

    assert early(59.0, 0.01) == 0
    assert early(0.0, 0.01) == 1000
    assert early(1.0, 0.1) < early(0.5, 0.1) < early(0.1, 0.1)
    assert early(1.0, 0.1) < early(1.0, 0.5) < early(1.0, 2.0)
    # P(refresh) is exp(-left / cost): 0.607 with half the cost left.
    assert 590 <= early(0.5, 1.0) <= 620


def test_what_a_module_can_show_is_found_through_those_that_it_asks() -> None:
    modules = {
        "web": ModuleReach(asks=("shop",)),
        "shop": ModuleReach(follows=("stock",)),
        "stock": ModuleReach(asks=("shop",)),
        "other": ModuleReach(),
    }
    assert reach_of(modules, "web") == {"web", "shop", "stock"}
    assert reach_of(modules, "other") == {"other"}
