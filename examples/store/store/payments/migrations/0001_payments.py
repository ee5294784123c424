"""Payments, each with the key by which the provider is asked."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Uuid, money, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "payments",
        tenant(),
        sa.Column("order_id", Uuid(), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("customer_id", sa.Text, nullable=False),
        *money("amount"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("asked", sa.BigInteger, nullable=False),
        sa.Column("reference", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", Instant(), nullable=False),
    )
    op.create_index("payments_unsettled_index", "payments", ["tenant", "state", "created_at"])


def downgrade() -> None:
    op.drop_table("payments")
