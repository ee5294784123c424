"""The whole state of a store, row by row, without what differs from one life to the next.

Identifiers are replaced by natural keys: a product's by its SKU, an order's by
its invoice number. Two stores that did the same work have equal states,
whatever they are kept in.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import MetaData, Table, create_engine, select
from sqlalchemy.ext.asyncio import create_async_engine

from tenfold.runtimes.opening import ModuleTables
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.topology import load_product
from tests.faults.store_process import STORE

__all__ = ["LEFT_OUT", "State", "state_of_files", "state_of_schemas"]

LEFT_OUT = {
    # By the clock of the moment, or made up anew each time.
    ("products", "created_at"),
    ("deliveries", "received_at"),
    ("mails", "id"),
    ("mails", "sent_at"),
    ("payments", "created_at"),
    ("payments", "key"),
    ("payments", "reference"),
    # How often the provider was asked depends on what was interrupted.
    ("payments", "asked"),
}
"""Columns that are not compared."""
State = dict[str, Counter[str]]
"""Rows by `module.table`, each as a text, with how often it is there."""

# Whole, or the last twelve digits, by which a customer is told of an order.
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}|[0-9a-f]{12}")
_Rows = dict[str, list[dict[str, Any]]]


def _tables() -> dict[str, list[Table]]:
    product = load_product(STORE)
    found = {}
    for name, cls in product.modules.items():
        tables = ModuleTables.of(read_module(name, cls))
        projected = [
            table.to_metadata(MetaData(), name=f"{table.name}__1")
            for group in tables.projected.values()
            for table in group
        ]
        found[name] = [*tables.own, *projected]
    return found


def state_of_files(data: Path) -> State:
    """The state of a store on SQLite."""
    rows: _Rows = {}
    for module, tables in _tables().items():
        engine = create_engine(f"sqlite:///{data / module}.db")
        with engine.connect() as connection:
            for table in tables:
                found = connection.execute(select(table)).mappings()
                rows[f"{module}.{table.name}"] = [dict(row) for row in found]
        engine.dispose()
    return _natural(rows)


async def state_of_schemas(url: str) -> State:
    """The state of a store on PostgreSQL."""
    rows: _Rows = {}
    # JSON stays text: the columns' own type reads it.
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://"), json_deserializer=str
    )
    for module, tables in _tables().items():
        placed = engine.execution_options(schema_translate_map={None: module})
        async with placed.connect() as connection:
            for table in tables:
                found = (await connection.execute(select(table))).mappings()
                rows[f"{module}.{table.name}"] = [dict(row) for row in found]
    await engine.dispose()
    return _natural(rows)


def _natural(rows: _Rows) -> State:
    names = {row["id"].hex: f"product {row['sku']}" for row in rows["catalog.products"]}
    names |= {row["id"].hex: f"order {row['invoice_no']}" for row in rows["orders.orders"]}
    names |= {hex_[-12:]: name for hex_, name in names.items()}
    return {
        table: Counter(_text(table.partition(".")[2], row, names) for row in found)
        for table, found in rows.items()
    }


def _text(table: str, row: dict[str, Any], names: dict[str, str]) -> str:
    kept = {
        name: _named(value, names)
        for name, value in sorted(row.items())
        if (table, name) not in LEFT_OUT
    }
    return msgspec.json.encode(kept, order="sorted").decode()


def _named(value: Any, names: dict[str, str]) -> Any:
    """A value with every known identifier replaced, at any depth."""
    if isinstance(value, UUID):
        return names.get(value.hex, str(value))
    if isinstance(value, str):
        return _UUID.sub(lambda found: names.get(found[0].replace("-", ""), found[0]), value)
    if isinstance(value, msgspec.Struct):
        return _named(msgspec.structs.asdict(value), names)
    if isinstance(value, dict):
        return {key: _named(item, names) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        items = [_named(item, names) for item in value]
        return sorted(items, key=msgspec.json.encode)
    return value
