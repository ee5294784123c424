"""Tenfold: write a product once, as modules with typed contracts; run it at any size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenfold.contracts.contract import Contract as Contract
    from tenfold.contracts.cursors import Cursor as Cursor
    from tenfold.contracts.cursors import Limit as Limit
    from tenfold.contracts.cursors import decode_cursor as decode_cursor
    from tenfold.contracts.cursors import encode_cursor as encode_cursor
    from tenfold.contracts.envelope import Principal as Principal
    from tenfold.contracts.errors import Outcome as Outcome
    from tenfold.contracts.errors import TenfoldError as TenfoldError
    from tenfold.contracts.operations import command as command
    from tenfold.contracts.operations import query as query
    from tenfold.contracts.refusals import Refusal as Refusal
    from tenfold.contracts.scalars import Currency as Currency
    from tenfold.contracts.scalars import Instant as Instant
    from tenfold.contracts.scalars import Money as Money
    from tenfold.contracts.scalars import Page as Page
    from tenfold.contracts.structs import Event as Event
    from tenfold.contracts.structs import Struct as Struct
    from tenfold.path.declare import Projection as Projection
    from tenfold.path.declare import job as job
    from tenfold.path.declare import schedule as schedule
    from tenfold.path.declare import subscribe as subscribe
    from tenfold.path.proxies import keyed as keyed
    from tenfold.path.proxies import stale_ok as stale_ok
    from tenfold.path.unit_of_work import call_key as call_key
    from tenfold.path.unit_of_work import new_id as new_id
    from tenfold.path.unit_of_work import now as now
    from tenfold.path.unit_of_work import principal as principal
    from tenfold.path.unit_of_work import publish as publish
    from tenfold.ports.database import Database as Database

_HOMES = {
    "Contract": "tenfold.contracts.contract",
    "Currency": "tenfold.contracts.scalars",
    "Cursor": "tenfold.contracts.cursors",
    "Database": "tenfold.ports.database",
    "Event": "tenfold.contracts.structs",
    "Instant": "tenfold.contracts.scalars",
    "Limit": "tenfold.contracts.cursors",
    "Money": "tenfold.contracts.scalars",
    "Outcome": "tenfold.contracts.errors",
    "Page": "tenfold.contracts.scalars",
    "Principal": "tenfold.contracts.envelope",
    "Projection": "tenfold.path.declare",
    "Refusal": "tenfold.contracts.refusals",
    "Struct": "tenfold.contracts.structs",
    "TenfoldError": "tenfold.contracts.errors",
    "call_key": "tenfold.path.unit_of_work",
    "command": "tenfold.contracts.operations",
    "decode_cursor": "tenfold.contracts.cursors",
    "encode_cursor": "tenfold.contracts.cursors",
    "job": "tenfold.path.declare",
    "keyed": "tenfold.path.proxies",
    "new_id": "tenfold.path.unit_of_work",
    "now": "tenfold.path.unit_of_work",
    "principal": "tenfold.path.unit_of_work",
    "publish": "tenfold.path.unit_of_work",
    "query": "tenfold.contracts.operations",
    "schedule": "tenfold.path.declare",
    "stale_ok": "tenfold.path.proxies",
    "subscribe": "tenfold.path.declare",
}
__all__ = [
    "Contract",
    "Currency",
    "Cursor",
    "Database",
    "Event",
    "Instant",
    "Limit",
    "Money",
    "Outcome",
    "Page",
    "Principal",
    "Projection",
    "Refusal",
    "Struct",
    "TenfoldError",
    "call_key",
    "command",
    "decode_cursor",
    "encode_cursor",
    "job",
    "keyed",
    "new_id",
    "now",
    "principal",
    "publish",
    "query",
    "schedule",
    "stale_ok",
    "subscribe",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # A name is fetched when it is first used: importing a contract must not load the path.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'tenfold' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
