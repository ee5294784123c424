"""Products, found by name."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Uuid, money, tenant
from tenfold.tables.migration import create_search_index, drop_search_index

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "products",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("sku", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        *money("price"),
        sa.Column("created_at", Instant(), nullable=False),
        sa.UniqueConstraint("tenant", "sku", name="products_tenant_sku_unique"),
    )
    create_search_index("products_search", table="products", key=["tenant", "id"], columns=["name"])


def downgrade() -> None:
    drop_search_index("products_search", columns=["name"])
    op.drop_table("products")
