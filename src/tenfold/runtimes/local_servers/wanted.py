"""What is asked of the servers of this machine, and what comes of it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tenfold.contracts.structs import Struct

__all__ = ["LocalServers", "ServerWants"]

Source = Literal["path", "wheel"]


class ServerWants(Struct):
    """Which servers a topology needs.

    `sources` are where programs may come from, in order. `fast` gives up
    durability and passwords and `discard` removes the data at the end: both are
    for tests' servers alone, and count only where the data is made.
    """

    postgres: bool = True
    replicas: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    valkey: bool = True
    broker: bool = False
    sources: tuple[Source, ...] = ("path", "wheel")
    fast: bool = False
    discard: bool = False
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=600)] = 60.0


class LocalServers(Struct):
    """The servers that a topology runs on.

    `database_url` is empty where no database was asked for, `cache_url` None where there is
    no Valkey, and `broker_url` where there is no broker. `said` tells people, sentence by
    sentence, which server was taken and why.
    """

    database_url: str
    replica_urls: tuple[str, ...] = ()
    cache_url: str | None = None
    broker_url: str | None = None
    said: tuple[str, ...] = ()
