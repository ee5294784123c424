"""Connections to a module's file, with the settings that its promises rest on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tenfold.contracts.errors import Outcome, StoreUnavailableError

__all__ = ["is_failure", "open_reader", "open_writer", "unavailable"]

_BUSY_MS = 5_000
_STATEMENTS = 512


def open_writer(file: Path) -> sqlite3.Connection:
    """The one connection that writes.

    The log is synced at every commit (`synchronous=FULL`), so that a committed
    unit of work survives the loss of power.
    """
    connection = _open(f"file:{_quoted(file)}?mode=rwc")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    # A checkpoint every 8 MB of log instead of 4: commits wait for fewer of them.
    connection.execute("PRAGMA wal_autocheckpoint=2000")
    connection.execute("PRAGMA journal_size_limit=33554432")
    return connection


def open_reader(file: Path) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = _open(f"file:{_quoted(file)}?mode=rw")
    connection.execute("PRAGMA query_only=ON")
    return connection


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri,
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
    )
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def _quoted(file: Path) -> str:
    return str(file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def is_failure(error: sqlite3.Error) -> bool:
    """Whether the store itself failed, rather than refused a wrong statement or a constraint."""
    name = getattr(error, "sqlite_errorname", "")
    return not name.startswith(("SQLITE_ERROR", "SQLITE_CONSTRAINT", "SQLITE_MISMATCH"))


def unavailable(
    module: str, error: sqlite3.Error, *, outcome: Outcome = Outcome.NOT_DONE
) -> StoreUnavailableError:
    """What SQLite could not do, as the platform's error, with the way to mend it."""
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    mend = "Look at the file and the disk it is on."
    if name.startswith("SQLITE_FULL"):
        mend = "The disk is full: make room, then try again."
    elif name.startswith("SQLITE_BUSY"):
        mend = "Another process writes to the file: end it, then try again."
    elif name.startswith("SQLITE_IOERR"):
        mend = "The disk failed: check it, then restart the product."
    done = "Nothing was committed." if outcome is Outcome.NOT_DONE else "It may be committed."
    return StoreUnavailableError(
        f"The database of module {module!r} failed with {name}: {error}. {done} {mend}",
        outcome=outcome,
    )
