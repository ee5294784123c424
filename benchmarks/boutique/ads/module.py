"""The ads' handler."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.ads import rules
from benchmarks.boutique.ads.contract import Ad, Ads

__all__ = ["AdsModule"]


@final
class AdsModule(Ads):
    """Chooses by category."""

    async def choose(self, categories: list[str]) -> list[Ad]:
        """Those that fit."""
        return [Ad(text=text, product_id=id_) for text, id_ in rules.choose(categories)]
