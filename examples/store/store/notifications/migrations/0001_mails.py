"""Mails, one for each order."""

import sqlalchemy as sa
from alembic import op

from tenfold.tables.columns import Instant, Uuid, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "mails",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("order_id", Uuid(), nullable=False),
        sa.Column("to", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("sent_at", Instant()),
        sa.UniqueConstraint("tenant", "order_id", name="mails_tenant_order_id_unique"),
    )
    op.create_index("mails_customer_index", "mails", ["tenant", "customer_id", "id"])


def downgrade() -> None:
    op.drop_table("mails")
