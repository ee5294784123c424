"""Which products go with others: no chance in it, so that all sides answer the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zlib import crc32

__all__ = ["recommend"]

MOST = 4


def recommend(user_id: str, given: Iterable[str], all_ids: Sequence[str]) -> list[str]:
    """At most four others, beginning where the customer's name and the given ones say."""
    out = set(given)
    others = [each for each in all_ids if each not in out]
    if not others:
        return []
    first = crc32(",".join((user_id, *sorted(out))).encode()) % len(others)
    return (others[first:] + others[:first])[:MOST]
