"""The meters."""

from __future__ import annotations

from typing import final

from sqlalchemy import BigInteger, Column, Integer, Table, bindparam, select

from metering.meter.contract import Meter, Metered, Sampled
from tenfold import Database, publish
from tenfold.tables.columns import metadata, tenant
from tenfold.tables.upsert import incoming, upsert

__all__ = ["MeterModule"]

METADATA = metadata()
METERS = Table(
    "meters",
    METADATA,
    tenant(),
    Column("meter", Integer, primary_key=True),
    Column("metered", BigInteger, nullable=False),
    Column("sampled", BigInteger, nullable=False),
)
ONE = select(METERS.c.metered, METERS.c.sampled).where(METERS.c.meter == bindparam("meter"))
SET = upsert(
    METERS,
    on=[METERS.c.meter],
    set={
        METERS.c.metered: incoming(METERS.c.metered),
        METERS.c.sampled: incoming(METERS.c.sampled),
    },
).values(meter=bindparam("meter"), metered=bindparam("metered"), sampled=bindparam("sampled"))


@final
class MeterModule(Meter):
    """Counts."""

    metadata = METADATA
    db: Database

    async def read(self, first: int, meters: int, count: int, samples: int = 0) -> None:
        for meter in range(first, first + meters):
            row = await self.db.one(ONE, meter=meter)
            metered, sampled = (0, 0) if row is None else (row.metered, row.sampled)
            for number in range(metered + 1, metered + count + 1):
                publish(Metered(meter=meter, number=number))
            for number in range(sampled + 1, sampled + samples + 1):
                publish(Sampled(meter=meter, number=number))
            await self.db.execute(
                SET, meter=meter, metered=metered + count, sampled=sampled + samples
            )
