"""Stock, reservations and deliveries."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Json, Uuid, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "stock",
        tenant(),
        sa.Column("product_id", Uuid(), primary_key=True),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("free", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("sold", sa.BigInteger, nullable=False),
        sa.CheckConstraint("free >= 0", name="stock_free_not_negative"),
        sa.CheckConstraint("reserved >= 0", name="stock_reserved_not_negative"),
        sa.CheckConstraint("sold >= 0", name="stock_sold_not_negative"),
        sa.CheckConstraint("free + reserved + sold = received", name="stock_adds_up"),
    )
    op.create_table(
        "reservations",
        tenant(),
        sa.Column("order_id", Uuid(), primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("pieces", Json(list), nullable=False),
    )
    op.create_table(
        "deliveries",
        tenant(),
        sa.Column("delivery_no", sa.Text, primary_key=True),
        sa.Column("received_at", Instant(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("deliveries")
    op.drop_table("reservations")
    op.drop_table("stock")
