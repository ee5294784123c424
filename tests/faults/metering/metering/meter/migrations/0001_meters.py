"""The meters."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "meters",
        tenant(),
        sa.Column("meter", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("metered", sa.BigInteger, nullable=False),
        sa.Column("sampled", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("meters")
