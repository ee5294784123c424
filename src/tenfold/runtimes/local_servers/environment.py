"""Servers that the environment names: whoever sets a URL there has decided."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.runtimes.brokers import KINDS

__all__ = ["GivenServers", "decide_given"]

_POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg")
_VALKEY = ("redis", "rediss", "valkey", "valkeys")


class GivenServers(Struct):
    """What the environment names; None where it names nothing."""

    database_url: str | None
    replica_urls: tuple[str, ...]
    cache_url: str | None
    broker_url: str | None
    said: tuple[str, ...]


def decide_given(environ: Mapping[str, str]) -> GivenServers:
    """Read the servers' URLs: Tenfold's own variables first, then the usual ones.

    A usual variable with another system's URL (`DATABASE_URL=mysql://…`) belongs
    to somebody else and is passed over; in a variable of Tenfold's it is a mistake.
    Raises: UserMistakeError naming the variable.
    """
    said: list[str] = []
    database = _pick(environ, "TENFOLD_DATABASE_URL", ("DATABASE_URL",), _POSTGRES)
    cache = _pick(environ, "TENFOLD_CACHE_URL", ("REDIS_URL", "VALKEY_URL"), _VALKEY)
    broker = _pick(environ, "TENFOLD_BROKER_URL", (), tuple(KINDS))
    replicas = tuple(
        _checked("TENFOLD_REPLICA_URLS", each.strip(), _POSTGRES)
        for each in environ.get("TENFOLD_REPLICA_URLS", "").split(",")
        if each.strip()
    )
    if replicas and database is None:
        raise UserMistakeError(
            "TENFOLD_REPLICA_URLS names read replicas, but nothing names the primary that they "
            "follow. Nothing was started. Set TENFOLD_DATABASE_URL as well."
        )
    if database is not None:
        said.append(f"PostgreSQL: the server at {_place(database[1])}, as {database[0]} says.")
        said += [f"Read replica: the server at {_place(each)}, as given." for each in replicas]
    if cache is not None:
        said.append(f"Valkey: the server at {_place(cache[1])}, as {cache[0]} says.")
    if broker is not None:
        said.append(f"Broker: {_place(broker[1])}, as {broker[0]} says.")
    return GivenServers(
        database_url=database[1] if database else None,
        replica_urls=replicas,
        cache_url=cache[1] if cache else None,
        broker_url=broker[1] if broker else None,
        said=tuple(said),
    )


def _pick(
    environ: Mapping[str, str], own: str, usual: tuple[str, ...], schemes: tuple[str, ...]
) -> tuple[str, str] | None:
    if environ.get(own):
        return own, _checked(own, environ[own], schemes)
    for name in usual:
        url = environ.get(name, "")
        if url.partition("://")[0] in schemes:
            return name, _checked(name, url, schemes)
    return None


def _checked(name: str, url: str, schemes: tuple[str, ...]) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or not rest or scheme not in schemes:
        found = f"{scheme}://…" if separator else "no URL"
        raise UserMistakeError(
            f"{name}: found {found}, expected {schemes[0]}://USER:PASSWORD@HOST:PORT/NAME. "
            "Nothing was started. Correct the variable, or unset it to have a server found or "
            "started on this machine."
        )
    if scheme.startswith("postgres"):
        return f"postgresql://{rest}"
    return url.replace("valkey", "redis", 1) if scheme.startswith("valkey") else url


def _place(url: str) -> str:
    """Host, port and name; never a password."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
