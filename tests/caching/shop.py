"""A small shop whose answers are kept in every way, and a host with its cache wired in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, final

from sqlalchemy import Column, Integer, Table, Text, bindparam, select

from tenfold import (
    Database,
    Principal,
    Projection,
    principal,
    publish,
    stale_ok,
    subscribe,
)
from tenfold.path.entry import Incoming, Reply
from tenfold.ports.cache import Cache, CacheSettings
from tenfold.ports.clock import Clock, RandomIds
from tenfold.ports.replicas import Replicas
from tenfold.runtimes.caches import CacheParts, Caches, open_caches
from tenfold.runtimes.host import Host
from tenfold.runtimes.roles import Role
from tenfold.runtimes.topology import HttpLimits, Product, Topology
from tenfold.tables.columns import metadata, tenant
from tenfold.tables.upsert import incoming, upsert
from tenfold.testing.clock import HeldClock
from tests.caching.shop_contract import NoSuchSku, Price, PriceChanged, Shop
from tests.caching.tells_contract import Tells

TABLES = metadata()
PRICES = Table(
    "prices",
    TABLES,
    tenant(),
    Column("sku", Text, primary_key=True),
    Column("price", Integer, nullable=False),
)
SET_PRICE = upsert(
    PRICES, on=[PRICES.c.sku], set={PRICES.c.price: incoming(PRICES.c.price)}
).values(sku=bindparam("sku"), price=bindparam("price"))
PRICE = select(PRICES.c.price).where(PRICES.c.sku == bindparam("sku"))
TELLING = metadata()
CHANGES = Table(
    "changes",
    TELLING,
    tenant(),
    Column("sku", Text, primary_key=True),
    Column("count", Integer, nullable=False),
)
ADD_CHANGE = upsert(
    CHANGES,
    on=[CHANGES.c.sku],
    set={CHANGES.c.count: CHANGES.c.count + incoming(CHANGES.c.count)},
).values(sku=bindparam("sku"), count=bindparam("count"))
COUNT = select(CHANGES.c.count).where(CHANGES.c.sku == bindparam("sku"))


class Doings:
    """How often each handler ran, and what tests make it do. One for a process's modules."""

    def __init__(self) -> None:
        self.ran: dict[str, int] = {}
        self.hold: asyncio.Event | None = None
        self.holding = asyncio.Event()
        self.fail: Exception | None = None
        self.told = 0
        self.slow_s = 0.0

    def count(self, name: str) -> None:
        self.ran[name] = self.ran.get(name, 0) + 1

    async def meet(self) -> None:
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        if self.hold is not None:
            self.holding.set()
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail


@final
class ShopModule(Shop):
    metadata = TABLES
    doings: Any = None
    db: Database
    tells: Tells

    async def set_price(self, sku: str, price: int) -> int:
        await self.db.execute(SET_PRICE, sku=sku, price=price)
        publish(PriceChanged(sku=sku, price=price))
        return price

    async def set_quietly(self, sku: str, price: int) -> int:
        return await self.db.execute(SET_PRICE, sku=sku, price=price)

    async def decide(self, sku: str) -> list[int]:
        return [await self.tells.told(sku), await stale_ok(self.tells).told(sku)]

    async def price(self, sku: str) -> Price:
        self.doings.count("price")
        found = await self.db.value(PRICE, sku=sku)
        await self.doings.meet()
        if found is None:
            raise NoSuchSku(sku=sku)
        return Price(sku=sku, price=found, labels=["new"])

    async def shared(self, sku: str) -> str:
        self.doings.count("shared")
        found = await self.db.value(PRICE, sku=sku)
        await self.doings.meet()
        return f"{found} for {principal().id}"

    async def timed(self, sku: str) -> int:
        self.doings.count("timed")
        return int(await self.db.value(PRICE, sku=sku) or 0)

    async def brief(self, sku: str) -> int:
        self.doings.count("brief")
        found = int(await self.db.value(PRICE, sku=sku) or 0)
        await self.doings.meet()
        return found

    async def through(self, sku: str) -> int:
        return await self.tells.told(sku)


@final
class Changes(Projection):
    """How often each price was changed."""

    name = "changes"
    tables = (CHANGES,)
    db: Database

    @subscribe
    async def changed(self, event: PriceChanged) -> None:
        await self.db.execute(ADD_CHANGE, sku=event.sku, count=1)

    async def of(self, sku: str) -> int:
        return int(await self.db.value(COUNT, sku=sku) or 0)


@final
class TellsModule(Tells):
    metadata = TELLING
    doings: Any = None
    db: Database
    changes: Changes

    async def told(self, sku: str) -> int:
        self.doings.told += 1
        return int(self.doings.told)

    async def changed(self, sku: str) -> int:
        self.doings.count("changed")
        return await self.changes.of(sku)


ADA = Principal(id="ada")
BEN = Principal(id="ben")


class ShopBench:
    """The shop in one process, its cache wired in; several on one folder are several processes."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.clock = clock or HeldClock()
        self.doings = Doings()
        product = Product(
            name="shop",
            root=folder,
            modules={"shop": ShopModule, "tells": TellsModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(http=HttpLimits(max_concurrent=20_000)),
        )
        self.host = Host(
            product, data_dir=folder, clock=self.clock, ids=RandomIds(7), create_tables=True
        )
        self.caches: Caches

    async def start(
        self,
        far: Cache | None = None,
        settings: CacheSettings | None = None,
        role: Role = Role.ALL,
        replicas: Replicas | None = None,
    ) -> None:
        host = self.host
        await host.start(role)
        for runtime in host.modules.values():
            runtime.instance.doings = self.doings
        self.caches = wire(host, far, settings, replicas)
        await self.caches.start()
        self.shop = host.proxy(Shop, principal=ADA)
        self.tells = host.proxy(Tells, principal=ADA)

    async def stop(self) -> None:
        await self.caches.stop()
        await self.host.stop()

    async def ask(
        self,
        name: str,
        *,
        who: Principal = ADA,
        tenant: str = "main",
        position: str | None = None,
        **arguments: Any,
    ) -> Reply:
        spec = self.host.operations[name]
        return await self.host.entry.call(
            Incoming(
                operation=spec,
                arguments=spec.arguments(**arguments),
                principal=who,
                tenant=tenant,
                position=position,
            )
        )

    def counts(self, target: str) -> dict[str, int]:
        counts = self.caches.caching.counts()[target]
        return {name: n for name in counts.__slots__ if (n := getattr(counts, name))}


def wire(
    host: Host,
    far: Cache | None,
    settings: CacheSettings | None = None,
    replicas: Replicas | None = None,
) -> Caches:
    """Open the cache of a host that is running, as its start does it."""
    shapes = host._shapes
    calls = host._running
    epochs = calls._positions._epochs
    caches = open_caches(
        settings or CacheSettings(),
        CacheParts(
            product=host.product.name,
            shapes=shapes,
            modules=host.modules,
            operations=calls._operations,
            epochs=epochs,
            progress=host._background.projections,
            replicas=replicas,
            clock=host.clock,
            ids=host._around.ids,
        ),
        shared=far,
    )
    assert caches is not None
    for name in host.modules:
        caches.attach_background([host.delivery(name)], host.modules[name])
    return caches
