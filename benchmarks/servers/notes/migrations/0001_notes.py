"""Notes."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Uuid, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "notes",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("created_at", Instant(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("notes")
