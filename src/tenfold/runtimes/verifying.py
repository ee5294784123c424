"""Whether a product's databases have what its modules declare."""

from __future__ import annotations

from tenfold.runtimes.migrations import shapes
from tenfold.runtimes.opening import ModuleTables
from tenfold.runtimes.topology import Product
from tenfold.tables.drift import Drift
from tenfold.tables.search import search_indexes

__all__ = ["verify_product"]


async def verify_product(product: Product) -> list[Drift]:
    """Every difference between declared tables and those that are there. Changes nothing.

    The tables of projections are left out: the platform makes them, and makes them anew where
    they differ.

    Raises: StoreUnavailableError (NOT_DONE).
    """
    found: list[Drift] = []
    for shape in shapes(product):
        tables = ModuleTables.of(shape)
        projected = [table for each in tables.projected.values() for table in each]
        names = [table.name for table in projected]
        names += [search.name for table in projected for search in search_indexes(table)]
        if product.topology.shared:
            from tenfold.adapters.postgres.verify import verify_schema

            url = product.topology.database.url
            found += await verify_schema(url, shape.name, tables.own, names)
        else:
            from tenfold.adapters.sqlite.verify import verify_file

            file = product.data_dir / f"{shape.name}.db"
            found += verify_file(file, shape.name, tables.own, names)
    return found
