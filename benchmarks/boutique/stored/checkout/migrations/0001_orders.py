"""Orders."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Json, Uuid, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "orders",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("transaction", sa.Text, nullable=False),
        sa.Column("tracking", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("nanos", sa.Integer, nullable=False),
        sa.Column("placed_at", Instant(), nullable=False),
        sa.Column("lines", Json(list), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("orders")
