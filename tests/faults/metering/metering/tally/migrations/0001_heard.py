"""What was heard."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "heard",
        tenant(),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("meter", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("misordered", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("heard")
