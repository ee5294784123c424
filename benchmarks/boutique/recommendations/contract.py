"""What else a customer may like."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, query

__all__ = ["Recommendations"]


class Recommendations(Contract, Protocol):
    """Suggests products."""

    @query(who="internal")
    async def recommend(self, user_id: str, product_ids: list[str]) -> list[str]:
        """Other products than these, the most promising first."""
        ...
