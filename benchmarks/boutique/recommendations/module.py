"""The recommendations' handler."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.catalog.contract import Catalog
from benchmarks.boutique.recommendations import rules
from benchmarks.boutique.recommendations.contract import Recommendations

__all__ = ["RecommendationsModule"]


@final
class RecommendationsModule(Recommendations):
    """Suggests what the catalog has."""

    catalog: Catalog

    async def recommend(self, user_id: str, product_ids: list[str]) -> list[str]:
        """Other products than these."""
        products = await self.catalog.list_products()
        return rules.recommend(user_id, product_ids, [product.id for product in products])
