"""The insights' own tables: none. All that the module keeps is in its projections."""

from __future__ import annotations

from tenfold.tables.columns import metadata

__all__ = ["METADATA"]

METADATA = metadata()
