"""The platform's own tables in a module's SQLite file, and the states of a queue entry.

Every name begins with `tenfold_`. Moments are whole microseconds since 1970 in
UTC. The tables are made when a module starts; a module's own tables are Alembic's.
"""

from __future__ import annotations

import sqlite3

from tenfold.contracts.errors import StoreUnavailableError

__all__ = [
    "DEAD",
    "DUE",
    "LATER",
    "LOST_ALONE",
    "LOST_IN_BATCH",
    "PARKED",
    "PLATFORM_SCHEMA_VERSION",
    "create_platform_tables",
]

PLATFORM_SCHEMA_VERSION = 1
"""Raised with every change to the tables below, together with a step that leads to it."""

# The states of a queue entry, in its column `waits`. A claim is not a state: rows stay as they
# are while they are worked, and `tenfold_claims` names them (one write for each batch).
DEAD = 0
"""A dead letter: out of the way until somebody retries or discards it."""
DUE = 1
"""May be claimed as soon as its lane is free."""
LATER = 2
"""Not before `run_at`; a cycle makes it DUE when the moment has come."""
PARKED = 3
"""Due, but its lane was busy when a claim came past; it is not looked at until the lane is free.

Without parking every claim would read past all rows of a hot lane again.
"""

# The values of a queue entry's `alone`, beside 0.
LOST_IN_BATCH = 1
"""A claim was lost that held it among others: from now on it is claimed by itself."""
LOST_ALONE = 2
"""A claim was lost that held nothing else."""

META = """
-- What is known of this file as a whole: schema version, and the epoch of its log.
CREATE TABLE IF NOT EXISTS tenfold_meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID
"""
OUTBOX = """
-- The log of published events. One writer, so `seq` is commit order. AUTOINCREMENT keeps
-- numbers from being used again after the log was trimmed to nothing.
CREATE TABLE IF NOT EXISTS tenfold_outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    order_key TEXT,
    at INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""
OUTBOX_BY_KEY = """
-- Whether an event with an order key was published: what a caller who waits asks.
CREATE INDEX IF NOT EXISTS tenfold_outbox_by_key
    ON tenfold_outbox (order_key, name, tenant) WHERE order_key IS NOT NULL
"""
QUEUE = """
-- Background work: subscriptions, jobs and schedules. `waits` as in schema.py.
CREATE TABLE IF NOT EXISTS tenfold_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    waits INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    lane TEXT,
    run_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    alone INTEGER NOT NULL DEFAULT 0,
    holds INTEGER NOT NULL DEFAULT 0,
    handler TEXT NOT NULL,
    generation INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    message_id TEXT NOT NULL,
    unique_key TEXT,
    source TEXT,
    source_seq INTEGER,
    last_error TEXT,
    body BLOB NOT NULL
)
"""
QUEUE_DUE = """
-- What a claim scans. It covers the scan: only rows that are taken are looked up.
CREATE INDEX IF NOT EXISTS tenfold_queue_due
    ON tenfold_queue (priority DESC, id, lane, alone) WHERE waits = 1
"""
QUEUE_LATER = """
-- What falls due when.
CREATE INDEX IF NOT EXISTS tenfold_queue_later ON tenfold_queue (run_at) WHERE waits = 2
"""
QUEUE_LANES = """
-- A lane's entries in order, whatever they wait for.
CREATE INDEX IF NOT EXISTS tenfold_queue_lanes
    ON tenfold_queue (lane, id, waits, alone) WHERE waits > 0 AND lane IS NOT NULL
"""
QUEUE_PARKED = """
-- Whether a lane that falls free has entries to be woken.
CREATE INDEX IF NOT EXISTS tenfold_queue_parked ON tenfold_queue (lane) WHERE waits = 3
"""
QUEUE_HELD = """
-- Lanes that a dead letter keeps closed.
CREATE INDEX IF NOT EXISTS tenfold_queue_held ON tenfold_queue (lane) WHERE holds = 1
"""
QUEUE_DEAD = """
-- Dead letters, which people list.
CREATE INDEX IF NOT EXISTS tenfold_queue_dead ON tenfold_queue (id) WHERE waits = 0
"""
QUEUE_UNIQUE = """
-- One live entry for each unique key.
CREATE UNIQUE INDEX IF NOT EXISTS tenfold_queue_unique
    ON tenfold_queue (handler, tenant, unique_key) WHERE unique_key IS NOT NULL AND waits > 0
"""
QUEUE_SOURCES = """
-- How far a subscription's effects have come, for whoever waits to read their own writes.
CREATE INDEX IF NOT EXISTS tenfold_queue_sources
    ON tenfold_queue (handler, generation, source_seq) WHERE source_seq IS NOT NULL
"""
CLAIMS = """
-- Live claims, one row for each batch. `ids` and `lanes` are JSON arrays, entry by entry.
-- A number is never given twice: it is the fence on which completing writes depend.
CREATE TABLE IF NOT EXISTS tenfold_claims (
    fence INTEGER PRIMARY KEY AUTOINCREMENT,
    until INTEGER NOT NULL,
    alone INTEGER NOT NULL,
    ids TEXT NOT NULL,
    lanes TEXT NOT NULL
)
"""
INBOX = """
-- Messages that have had their effect. Rows are in order of time, so trimming takes a prefix.
CREATE TABLE IF NOT EXISTS tenfold_inbox (
    id INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL,
    handler TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (message_id, handler, generation)
)
"""
REPLIES = """
-- What keyed commands answered.
CREATE TABLE IF NOT EXISTS tenfold_replies (
    id INTEGER PRIMARY KEY,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    position INTEGER NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (scope, key)
)
"""
REPLIES_EXPIRE = """
-- Which replies are to be forgotten.
CREATE INDEX IF NOT EXISTS tenfold_replies_expire ON tenfold_replies (expires_at)
"""
POSITIONS = """
-- How far each subscription has read its source's log.
CREATE TABLE IF NOT EXISTS tenfold_positions (
    handler TEXT NOT NULL,
    generation INTEGER NOT NULL,
    source TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (handler, generation, source)
) WITHOUT ROWID
"""
_STATEMENTS = (
    META,
    OUTBOX,
    OUTBOX_BY_KEY,
    QUEUE,
    QUEUE_DUE,
    QUEUE_LATER,
    QUEUE_LANES,
    QUEUE_PARKED,
    QUEUE_HELD,
    QUEUE_DEAD,
    QUEUE_UNIQUE,
    QUEUE_SOURCES,
    CLAIMS,
    INBOX,
    REPLIES,
    REPLIES_EXPIRE,
    POSITIONS,
)


def create_platform_tables(connection: sqlite3.Connection) -> None:
    """Make the platform's tables where they are missing; safe to run at every start.

    A log that is made anew gets an epoch of its own. Takes a transaction of its
    own unless one is open.

    Raises: StoreUnavailableError (NOT_DONE) where the file is from a newer Tenfold.
    """
    found = _version(connection)
    if found == PLATFORM_SCHEMA_VERSION:
        return
    if found > PLATFORM_SCHEMA_VERSION:
        raise StoreUnavailableError(
            f"The database has version {found} of Tenfold's tables, and this Tenfold knows "
            f"versions up to {PLATFORM_SCHEMA_VERSION}. Nothing was changed. Run the newer "
            "Tenfold that wrote it."
        )
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _STATEMENTS:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO tenfold_meta VALUES ('epoch', lower(hex(randomblob(8))))"
            " ON CONFLICT DO NOTHING"
        )
        connection.execute(
            "INSERT INTO tenfold_meta VALUES ('schema_version', ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (str(PLATFORM_SCHEMA_VERSION),),
        )
    except BaseException:
        if own and connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if own:
        connection.execute("COMMIT")


def _version(connection: sqlite3.Connection) -> int:
    made = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'tenfold_meta'"
    ).fetchone()
    if made is None:
        return 0
    row = connection.execute(
        "SELECT value FROM tenfold_meta WHERE key = 'schema_version'"
    ).fetchone()
    return 0 if row is None else int(row[0])
