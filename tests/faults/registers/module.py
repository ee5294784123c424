"""The registers, and a subscriber who writes down in which order it hears of their steps."""

from __future__ import annotations

from typing import final

from sqlalchemy import BigInteger, Column, Table, Text, bindparam, func, insert, select

from tenfold import Database, new_id, publish, subscribe
from tenfold.tables.columns import Uuid, metadata, tenant
from tenfold.tables.upsert import incoming, upsert
from tests.faults.registers.contract import Reading, Registers, Stepped

__all__ = ["METADATA", "RegistersModule"]

METADATA = metadata()
REGISTERS = Table(
    "registers",
    METADATA,
    tenant(),
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
HEARD = Table(
    "heard",
    METADATA,
    tenant(),
    Column("name", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
)
# Without a key on name and number: a step that is heard twice is to be found, not refused.
TRAIL = Table(
    "trail",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("name", Text, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("after", BigInteger, nullable=False),
)
STEP = upsert(
    REGISTERS, on=[REGISTERS.c.name], set={REGISTERS.c.value: REGISTERS.c.value + 1}
).values(name=bindparam("name"), value=1)
_SERVER = func.coalesce(func.inet_server_port(), 0).label("server")
READ = select(REGISTERS.c.value, _SERVER).where(REGISTERS.c.name == bindparam("name"))
READ_ALL = select(REGISTERS.c.name, REGISTERS.c.value, _SERVER)
LAST = select(HEARD.c.number).where(HEARD.c.name == bindparam("name"))
HEAR = upsert(HEARD, on=[HEARD.c.name], set={HEARD.c.number: incoming(HEARD.c.number)}).values(
    name=bindparam("name"), number=bindparam("number")
)
NOTE = insert(TRAIL)


@final
class RegistersModule(Registers):
    """Keeps the registers."""

    db: Database

    async def step(self, name: str) -> Reading:
        """Raise a register by one."""
        await self.db.execute(STEP, name=name)
        reading = await self.db.one(READ, name=name, into=Reading)
        assert reading is not None
        publish(Stepped(name=name, number=reading.value))
        return reading

    async def read(self, name: str) -> Reading:
        """What a register holds."""
        return await self.db.one(READ, name=name, into=Reading) or Reading(value=0)

    async def read_all(self) -> dict[str, Reading]:
        """What every register holds."""
        rows = await self.db.all(READ_ALL)
        return {row.name: Reading(value=row.value, server=row.server) for row in rows}

    @subscribe
    async def hear(self, event: Stepped) -> None:
        """Write down a step, and the one that was heard of before."""
        after = int(await self.db.value(LAST, name=event.name) or 0)
        await self.db.execute(HEAR, name=event.name, number=event.number)
        await self.db.execute(NOTE, id=new_id(), name=event.name, number=event.number, after=after)
