"""Orders, each invoice of the past once."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Json, Uuid, money, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "orders",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        *money("total"),
        sa.Column("placed_at", Instant(), nullable=False),
        sa.Column("invoice_no", sa.Text),
        sa.Column("lines", Json(list), nullable=False),
        sa.UniqueConstraint("tenant", "invoice_no", name="orders_tenant_invoice_no_unique"),
    )


def downgrade() -> None:
    op.drop_table("orders")
