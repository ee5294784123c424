"""What a module's migrations need beyond Alembic's own operations.

from alembic import op
from tenfold.tables.migration import create_search_index

def upgrade() -> None:
    op.create_table("products", ...)
    create_search_index("products_search", table="products", key=["tenant", "id"], columns=["name"])
"""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.tables.search import create_search_sql, drop_search_sql

__all__ = ["create_search_index", "drop_search_index"]


def create_search_index(
    name: str, *, table: str, key: Sequence[str], columns: Sequence[str]
) -> None:
    """Make what a `SearchIndex` declares, and fill it from the rows that are there.

    Args:
        name: the index's.
        table: the table that is searched.
        key: the columns of its primary key, the tenant included.
        columns: the text columns.
    """
    from alembic import op

    bind = op.get_bind()
    for statement in create_search_sql(name, table, key, columns, bind.dialect.name):
        bind.exec_driver_sql(statement)


def drop_search_index(name: str, *, columns: Sequence[str]) -> None:
    """Drop a search index. Its table stays."""
    from alembic import op

    bind = op.get_bind()
    for statement in drop_search_sql(name, columns, bind.dialect.name):
        bind.exec_driver_sql(statement)
