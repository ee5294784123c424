"""Empty databases for tests, used again once they have been emptied.

To create one takes PostgreSQL a few hundred milliseconds of processor time, more than most tests
that want one; to empty one takes ten.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tenfold.runtimes.local_servers.replica import query

__all__ = ["database_of", "drop_spares", "fresh_database"]

_OTHERS = """
SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_EMPTY = """
DO $$
DECLARE schema text;
BEGIN
    FOR schema IN
        SELECT nspname FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema);
    END LOOP;
END $$
"""
_LEFT = """
SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)
    + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)
    + (SELECT count(*) FROM pg_type WHERE typnamespace = 'public'::regnamespace)
    + (SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql')
    + (SELECT count(*) FROM pg_event_trigger)
    + (SELECT count(*) FROM pg_publication)
    + (SELECT count(*) FROM pg_largeobject_metadata)
    + (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())
    + (SELECT count(*) FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase
       WHERE d.datname = current_database())
"""
"""What `_EMPTY` does not see to, and no test is to find."""

_spare: defaultdict[str, list[str]] = defaultdict(list)
"""By server, the names of databases that are empty and nobody's."""


def database_of(server: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(server)._replace(path=f"/{name}"))


@contextlib.contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """An empty database of a server, nobody's at the end, whoever is still connected to it."""
    name = _spare[server].pop() if _spare[server] else _create(server)
    try:
        yield database_of(server, name)
    finally:
        if _empty(database_of(server, name)):
            _spare[server].append(name)
        else:
            _drop(server, name)


def drop_spares(server: str) -> None:
    """Drop what this process keeps for its next tests."""
    while _spare[server]:
        _drop(server, _spare[server].pop())


def _create(server: str) -> str:
    name = f"tenfold_test_{secrets.token_hex(6)}"
    query(server, f'CREATE DATABASE "{name}" TEMPLATE template0', timeout_s=60)
    return name


def _drop(server: str, name: str) -> None:
    query(server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', timeout_s=60)


def _empty(url: str) -> bool:
    """Empty a database; false where it is not as a new one."""
    try:
        query(url, _OTHERS, timeout_s=60)
        query(url, _EMPTY, timeout_s=60)
        return bool(query(url, _LEFT)[0][0] == 0)
    except (asyncpg.PostgresError, OSError, TimeoutError):
        return False
