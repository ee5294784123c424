"""What is in carts."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "items",
        tenant(),
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("product_id", sa.Text, primary_key=True),
        sa.Column("quantity", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("items")
