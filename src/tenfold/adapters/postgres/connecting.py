"""How a connection to PostgreSQL is made, and what is set on it."""

from __future__ import annotations

from typing import Any

from tenfold.contracts.structs import Struct

__all__ = ["PoolSettings", "connect_arguments", "local_settings"]

_STATEMENTS = 1024


class PoolSettings(Struct):
    """Where a database is and how it is used; times are in seconds.

    `url` may name several hosts; of those the first that takes writes is used,
    unless the URL asks for others (`target_session_attrs`). `wait_s` bounds the
    wait of whoever has no deadline of its own. With `pooler="transaction"`
    (pgbouncer) nothing is kept on the server between two transactions.
    """

    url: str
    size: int = 10
    connect_timeout_s: float = 5.0
    wait_s: float = 10.0
    statement_timeout_s: float = 30.0
    lock_timeout_s: float = 5.0
    idle_timeout_s: float = 30.0
    pooler: str = "none"
    target: str = "read-write"
    application: str = "tenfold"


def connect_arguments(settings: PoolSettings, serializable: bool) -> dict[str, Any]:
    """What asyncpg is given to connect, for a session of this isolation."""
    pooler = settings.pooler == "transaction"
    arguments: dict[str, Any] = {
        "dsn": settings.url,
        "timeout": settings.connect_timeout_s,
        "statement_cache_size": 0 if pooler else _STATEMENTS,
        "max_cached_statement_lifetime": 0,
        "max_cacheable_statement_size": 0,
    }
    if "target_session_attrs" not in settings.url:
        arguments["target_session_attrs"] = settings.target
    server_settings = {"application_name": settings.application}
    if not pooler:
        server_settings |= _settings(settings)
        server_settings["default_transaction_isolation"] = (
            "serializable" if serializable else "read committed"
        )
    arguments["server_settings"] = server_settings
    return arguments


def local_settings(settings: PoolSettings) -> str:
    """What follows a BEGIN where nothing can be set for the whole session."""
    return "".join(f"; SET LOCAL {name} = {value}" for name, value in _settings(settings).items())


def _settings(settings: PoolSettings) -> dict[str, str]:
    return {
        # With stale statistics the planner compiled for 238 ms before each claim.
        "jit": "off",
        "statement_timeout": _ms(settings.statement_timeout_s),
        "lock_timeout": _ms(settings.lock_timeout_s),
        "idle_in_transaction_session_timeout": _ms(settings.idle_timeout_s),
    }


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
