"""What is decided about a kept answer: whether it will do, and whether to replace it early."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from tenfold.path.positions import merge_tokens, read_token

__all__ = [
    "DATABASE",
    "Kept",
    "Life",
    "Shown",
    "Trail",
    "decide_covered",
    "decide_early",
    "decide_use",
]

DATABASE = "DB"
"""What the name of a database begins with in a token; a module's is in lower case."""
_BETA = 1.0


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """An answer at rest.

    `value` is the result as MessagePack; `cost_s` what it took to compute.
    `covers` is a token of all that it surely has, `shows` one of all that it
    can have, and `reach` names the modules and the database that it was
    computed from. `rank` is how far its module's log was.
    """

    value: bytes
    cost_s: float
    covers: str | None
    shows: str | None
    rank: int
    reach: tuple[str, ...] = ()


class Life(msgspec.Struct, frozen=True):
    """How long an answer is good, and for how long after that it is better than none."""

    fresh_s: float
    stale_s: float

    @property
    def keep_s(self) -> float:
        """Seconds for which they are kept."""
        return self.fresh_s + self.stale_s


class Shown(msgspec.Struct, frozen=True):
    """One answer from the cache, for clients that keep it on.

    `target` is the query's; `left_s` is below 0 where the answer is old and was
    given because no new one could be had.
    """

    target: str
    age_s: float
    left_s: float
    tags: tuple[str, ...] = ()


class Trail:
    """What goes with a question and those that it asks on, where kept answers may matter.

    `token` is what its caller has seen. `shows` is what kept answers have shown
    to it, as a token, and `kept` the last of them. `asked` are the queries that
    were asked on the way, where the answer will be kept.
    """

    __slots__ = ("asked", "kept", "shows", "token")

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.shows: str | None = None
        self.kept: Shown | None = None
        self.asked: list[Any] | None = None

    def on(self, query: Any) -> Trail:
        """The trail of a query that is asked on the way: the same, which notes it."""
        if self.asked is not None:
            self.asked.append(query)
        return self

    def of(self, target: str) -> Shown | None:
        """The answer that was given, if it is this query's own."""
        return self.kept if self.kept is not None and self.kept.target == target else None

    def show(self, shows: str | None, kept: Shown) -> None:
        """Note an answer that the question, or one that it asked on, was given."""
        self.shows = merge_tokens(self.shows, shows)
        self.kept = kept


def decide_use(life: Life, left_s: float) -> Literal["fresh", "old"]:
    """Whether an answer that is kept for so many more seconds is still good."""
    return "fresh" if left_s > life.stale_s else "old"


def decide_early(life: Life, left_s: float, cost_s: float, chance: float) -> bool:
    """Whether to compute anew what is still good, so that nobody waits at its expiry.

    Each who asks throws a die that falls more often as the end comes nearer,
    and the sooner the dearer the answer (Vattani, Chierichetti and Lowenstein,
    "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015).

    Args:
        chance: a random number in [0, 1).
    """
    return left_s - life.stale_s <= -cost_s * _BETA * math.log(1.0 - chance)


def decide_covered(kept: Kept, token: str | None) -> Literal["covered", "place", "older"]:
    """Whether an answer has all that a caller has seen and that could show in it.

    Args:
        token: the caller's; what it says of modules that were not asked is no matter.
    Returns: `older` where a module's log had not come as far; `place` where only
        the database's had not, which moves with every write of anybody.
    """
    if token is None:
        return "covered"
    known = {} if kept.covers is None else read_token(kept.covers)
    verdict: Literal["covered", "place"] = "covered"
    for name, (epoch, position) in read_token(token).items():
        if name not in kept.reach:
            continue
        covered = known.get(name)
        if covered is None or covered[0] != epoch or covered[1] < position:
            if not name.startswith(DATABASE):
                return "older"
            verdict = "place"
    return verdict
