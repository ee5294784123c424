"""The nine products."""

import sqlalchemy as sa
from alembic import op

from benchmarks.boutique.catalog.goods import GOODS, picture_of
from tenfold.tables.columns import Json, tenant

revision = "0001"
down_revision = None


def upgrade() -> None:
    products = op.create_table(
        "products",
        tenant(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("picture", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("units", sa.BigInteger, nullable=False),
        sa.Column("nanos", sa.Integer, nullable=False),
        sa.Column("categories", Json(list[str]), nullable=False),
    )
    rows = [
        {
            "tenant": "main",
            "id": id_,
            "name": name,
            "description": description,
            "picture": picture_of(id_),
            "currency": "USD",
            "units": cents // 100,
            "nanos": cents % 100 * 10_000_000,
            "categories": categories,
        }
        for id_, name, description, cents, categories in GOODS
    ]
    op.bulk_insert(products, rows)


def downgrade() -> None:
    op.drop_table("products")
