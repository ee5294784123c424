"""The servers that a topology runs on: those that it names, else those of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.runtimes.topology import Product, Topology

__all__ = ["Resourced", "resourced", "with_resources"]

_NO_CLIENT = (
    "Broker: the client of NATS is not installed, so events go through the database. To have one "
    "`pip install 'tenfold[scale]'`."
)


class Resourced(Struct):
    """A topology that says where each of its servers is. `said` tells people which was taken."""

    topology: Topology
    said: tuple[str, ...] = ()

    @property
    def environ(self) -> dict[str, str]:
        """What a process is to find in its environment to use the same servers."""
        found = {"TENFOLD_DATABASE_URL": self.topology.database.url}
        if self.topology.database.replicas:
            found["TENFOLD_REPLICA_URLS"] = ",".join(self.topology.database.replicas)
        if self.topology.cache.url:
            found["TENFOLD_CACHE_URL"] = self.topology.cache.url
        if self.topology.broker.url:
            found["TENFOLD_BROKER_URL"] = self.topology.broker.url
        return {name: value for name, value in found.items() if value}


@contextmanager
def resourced(
    topology: Topology,
    data_dir: Path,
    environ: Mapping[str, str] | None = None,
    *,
    database_only: bool = False,
) -> Iterator[Resourced]:
    """Find or start the servers of a topology; those that were started end with the block.

    Blocks while they start, so call it before the event loop runs, or from a thread.
    A topology that names its database is no laptop's: nothing is started for it.

    Args:
        database_only: start no replica, no cache and no broker, for a command that needs neither.

    Raises: ServersMissingError, ServerStartError and the like; UserMistakeError.
    """
    database, cache, broker = topology.database, topology.cache, topology.broker
    if not topology.shared or database.url:
        yield Resourced(topology=topology)
        return
    from tenfold.runtimes.local_servers.start import start_local_servers
    from tenfold.runtimes.local_servers.wanted import ServerWants

    wants_broker = topology.apart and not broker.url and not database_only
    speaks = find_spec("nats") is not None
    wants = ServerWants(
        replicas=0 if database_only else database.local_replicas,
        valkey=not cache.url and not database_only,
        broker=wants_broker and speaks,
    )
    with start_local_servers(data_dir, wants, os.environ if environ is None else environ) as found:
        urls = found.urls
        database = msgspec.structs.replace(
            database, url=urls.database_url, replicas=urls.replica_urls
        )
        if not cache.url and urls.cache_url:
            cache = msgspec.structs.replace(cache, url=urls.cache_url)
        if not broker.url and urls.broker_url:
            broker = msgspec.structs.replace(broker, url=urls.broker_url)
        yield Resourced(
            topology=msgspec.structs.replace(
                topology, database=database, cache=cache, broker=broker
            ),
            said=urls.said if speaks or not wants_broker else (*urls.said, _NO_CLIENT),
        )


@contextmanager
def with_resources(product: Product) -> Iterator[Product]:
    """A product whose topology names its database, for as long as the block lasts."""
    with resourced(product.topology, product.data_dir, database_only=True) as found:
        yield msgspec.structs.replace(product, topology=found.topology)
