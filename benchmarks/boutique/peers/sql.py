"""Catalogue, carts and orders on PostgreSQL by asyncpg, written by hand.

Each call is one statement and its own transaction, for which the server's own isolation
will do; Tenfold's units of work are serializable, and begun again where they lose.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg

from benchmarks.boutique.catalog.goods import GOODS, picture_of

__all__ = ["Tables", "make_tables"]

POOL = 10
MAKE = """
CREATE TABLE IF NOT EXISTS products (
    id text PRIMARY KEY, name text NOT NULL, description text NOT NULL, picture text NOT NULL,
    currency text NOT NULL, units bigint NOT NULL, nanos integer NOT NULL,
    categories text[] NOT NULL
);
CREATE TABLE IF NOT EXISTS items (
    user_id text, product_id text, quantity integer NOT NULL, PRIMARY KEY (user_id, product_id)
);
CREATE TABLE IF NOT EXISTS orders (
    id uuid PRIMARY KEY, user_id text NOT NULL, email text NOT NULL, transaction text NOT NULL,
    tracking text NOT NULL, currency text NOT NULL, units bigint NOT NULL, nanos integer NOT NULL,
    placed_at timestamptz NOT NULL, lines jsonb NOT NULL
);
"""
FILL = "INSERT INTO products VALUES ($1, $2, $3, $4, 'USD', $5, $6, $7) ON CONFLICT DO NOTHING"
LIST = """
SELECT id, name, description, picture, currency, units, nanos, categories FROM products ORDER BY id
"""
GET = """
SELECT id, name, description, picture, currency, units, nanos, categories FROM products
WHERE id = $1
"""
READ = "SELECT product_id, quantity FROM items WHERE user_id = $1 ORDER BY product_id"
ADD = """
INSERT INTO items (user_id, product_id, quantity) VALUES ($1, $2, $3)
ON CONFLICT (user_id, product_id) DO UPDATE SET quantity = items.quantity + excluded.quantity
"""
CLEAR = "DELETE FROM items WHERE user_id = $1"
ORDER = """
INSERT INTO orders (id, user_id, email, transaction, tracking, currency, units, nanos, placed_at,
    lines)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def make_tables(url: str) -> None:
    """Make the tables, and fill in the nine products."""
    connection = await asyncpg.connect(url)
    await connection.execute(MAKE)
    rows = [
        (id_, name, said, picture_of(id_), cents // 100, cents % 100 * 10_000_000, categories)
        for id_, name, said, cents, categories in GOODS
    ]
    await connection.executemany(FILL, rows)
    await connection.close()


class Tables:
    """The tables, through a pool of ten connections; BENCH_URL says where."""

    def __init__(self) -> None:
        self._pool: asyncpg.Pool[Any]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the pool for as long as the service runs."""
        url = os.environ["BENCH_URL"]
        async with asyncpg.create_pool(url, min_size=POOL, max_size=POOL) as self._pool:
            yield

    async def products(self) -> list[Any]:
        """All products, by id."""
        return await self._pool.fetch(LIST)

    async def product(self, product_id: str) -> Any:
        """One product; None where there is none."""
        return await self._pool.fetchrow(GET, product_id)

    async def read(self, user_id: str) -> list[tuple[str, int]]:
        """What is in a cart, by product."""
        return [tuple(row) for row in await self._pool.fetch(READ, user_id)]

    async def add(self, user_id: str, product_id: str, quantity: int) -> None:
        """Put more in."""
        await self._pool.execute(ADD, user_id, product_id, quantity)

    async def clear(self, user_id: str) -> None:
        """Take everything out."""
        await self._pool.execute(CLEAR, user_id)

    async def add_order(self, user_id: str, email: str, order: Any, lines: list[Any]) -> None:
        """Keep an order; its lines as plain values."""
        total = order.total
        await self._pool.execute(
            ORDER, order.id, user_id, email, order.transaction, order.tracking, total.currency,
            total.units, total.nanos, datetime.now(UTC), json.dumps(lines),
        )  # fmt: skip
