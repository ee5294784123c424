"""What customers did and were told, request by request: the journal outside of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["Asked", "Shelf", "ShelfProduct", "Try", "Wishes", "read_journal"]


class Try(msgspec.Struct, frozen=True, array_like=True):
    """One time that a request was sent. `bad` says why its answer was not the one wanted."""

    began_s: float
    ended_s: float
    bad: str = ""


class Asked(msgspec.Struct):
    """One request, from when it was due until it was answered, or given up.

    Times are of the machine's monotonic clock. `told` is the body of an order
    that was acknowledged, and `wrong` what an answer said that cannot be true.
    """

    kind: str
    due_s: float
    tries: list[Try]
    key: str = ""
    told: Any = None
    wrong: str = ""
    behind: bool = False

    @property
    def good(self) -> bool:
        """Whether it was answered as it should be, in the end."""
        return bool(self.tries) and not self.tries[-1].bad and not self.wrong

    @property
    def turned_away(self) -> list[Try]:
        """The times that it was not answered as it should be."""
        return [each for each in self.tries if each.bad]

    @property
    def took_s(self) -> float:
        """From when it was due to its last answer."""
        return self.tries[-1].ended_s - self.due_s


class ShelfProduct(msgspec.Struct, frozen=True):
    """Something that customers look at and buy. `word` is one of its name."""

    id: str
    sku: str
    word: str


class Shelf(msgspec.Struct, frozen=True):
    """What customers know of the store. `cursors` lead to pages of its catalogue."""

    products: list[ShelfProduct]
    cursors: list[str]


class Wishes(msgspec.Struct, frozen=True):
    """What the customers' process is told at its start, on the first line of its input."""

    port: int
    journal: str
    shelf: Shelf
    reads_per_s: float
    orders_per_s: float
    seed: int


def read_journal(file: Path) -> Iterator[Asked]:
    """Every request that has ended, in the order in which they ended."""
    decode = msgspec.json.Decoder(Asked).decode
    with file.open("rb") as lines:
        yield from map(decode, lines)
