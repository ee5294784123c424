"""Hears of the meters: in batches, and one by one."""

from __future__ import annotations

from typing import final

from sqlalchemy import BigInteger, Column, Integer, Table, Text, bindparam, func, select

from metering.meter.contract import Metered, Sampled
from metering.tally.contract import Sums, Tally
from tenfold import Database, subscribe
from tenfold.tables.columns import metadata, tenant
from tenfold.tables.upsert import incoming, upsert

__all__ = ["TallyModule"]

METADATA = metadata()
HEARD = Table(
    "heard",
    METADATA,
    tenant(),
    Column("kind", Text, primary_key=True),
    Column("meter", Integer, primary_key=True),
    Column("last", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("misordered", BigInteger, nullable=False),
)
_MINE = (HEARD.c.kind == bindparam("of_kind"), HEARD.c.meter == bindparam("of_meter"))
LAST = select(HEARD.c.last).where(*_MINE)
ADD = upsert(
    HEARD,
    on=[HEARD.c.kind, HEARD.c.meter],
    set={
        HEARD.c.last: incoming(HEARD.c.last),
        HEARD.c.count: HEARD.c.count + incoming(HEARD.c.count),
        HEARD.c.total: HEARD.c.total + incoming(HEARD.c.total),
        HEARD.c.misordered: HEARD.c.misordered + incoming(HEARD.c.misordered),
    },
).values(
    kind=bindparam("kind"),
    meter=bindparam("meter"),
    last=bindparam("last"),
    count=bindparam("count"),
    total=bindparam("total"),
    misordered=bindparam("misordered"),
)
SUMS = select(
    func.coalesce(func.sum(HEARD.c.count), 0).label("count"),
    func.coalesce(func.sum(HEARD.c.total), 0).label("total"),
    func.coalesce(func.sum(HEARD.c.misordered), 0).label("misordered"),
).where(HEARD.c.kind == bindparam("of_kind"))


@final
class TallyModule(Tally):
    """Sums up, and looks whether each number is the next."""

    metadata = METADATA
    db: Database

    async def sums(self) -> Sums:
        metered = await self.db.one(SUMS, of_kind="metered")
        sampled = await self.db.one(SUMS, of_kind="sampled")
        return Sums(
            metered=int(metered.count),
            metered_sum=int(metered.total),
            sampled=int(sampled.count),
            sampled_sum=int(sampled.total),
            misordered=int(metered.misordered + sampled.misordered),
        )

    @subscribe(batch=1000)
    async def hear(self, events: list[Metered]) -> None:
        """A list of readings, in the order of the log."""
        numbers: dict[int, list[int]] = {}
        for event in events:
            numbers.setdefault(event.meter, []).append(event.number)
        for meter, heard in numbers.items():
            await self._note("metered", meter, heard)

    @subscribe
    async def hear_sample(self, event: Sampled) -> None:
        """A sample, after those before it of its meter."""
        await self._note("sampled", event.meter, [event.number])

    async def _note(self, kind: str, meter: int, heard: list[int]) -> None:
        last = int(await self.db.value(LAST, of_kind=kind, of_meter=meter) or 0)
        misordered = sum(b != a + 1 for a, b in zip([last, *heard], heard, strict=False))
        self.db.buffer(
            ADD,
            kind=kind,
            meter=meter,
            last=heard[-1],
            count=len(heard),
            total=sum(heard),
            misordered=misordered,
        )
