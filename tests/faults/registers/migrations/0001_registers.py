"""Registers, what was heard of them last, and all that was ever heard."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Uuid, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "registers",
        tenant(),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "heard",
        tenant(),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "trail",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("after", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("trail")
    op.drop_table("heard")
    op.drop_table("registers")
