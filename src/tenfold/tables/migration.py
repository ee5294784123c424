"""What a module's migrations need beyond Alembic's own operations.

from alembic import op
from tenfold.tables.migration import create_search_index

def upgrade() -> None:
    op.create_table("products", ...)
    create_search_index("products_search", table="products", key=["tenant", "id"], columns=["name"])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    _run(lambda database: create_search_sql(name, table, key, columns, database))


def drop_search_index(name: str, *, columns: Sequence[str]) -> None:
    """Drop a search index. Its table stays."""
    _run(lambda database: drop_search_sql(name, columns, database))


def _run(texts: Callable[[str], Sequence[str]]) -> None:
    """Run statements as they are; or write them down, where the revision is only to be shown."""
    from alembic import op

    context = op.get_context()
    for text in texts(context.dialect.name):
        if context.as_sql:
            context.impl.static_output(f"{text.strip()};")
        else:
            op.get_bind().exec_driver_sql(text)
