"""A small product in two versions: the second's table gains a column and drops one.

What it serves at `/` adds an item for each POST, looks at some for each GET,
and answers with its version.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.faults.supervised import Supervised

__all__ = ["SupervisedShop", "write_version"]

_TOML = """
name = "items"
seed = "{package}.module:seed"

[modules]
items = "{package}.module:ItemsModule"

[mounts]
"/" = "{package}.module:build"

[topologies.growth]
data = "data"

[topologies.growth.http]
port = {port}
drain_s = 8.0
keep_alive_s = 3.0

[topologies.growth.database]
url = "{url}"

# Where callers ask as fast as they are answered, on the machine that answers, that is overload by
# any measure, and to be turned away for it is not what is looked at.
[topologies.growth.shedding]
enabled = false

[topologies.growth.processes]
web = 2
workers = 1
start_timeout_s = 40.0
"""
_CONTRACT = '''
"""Items."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, command, query


class Items(Contract, Protocol):
    """Items."""

    @command(who="anyone")
    async def add(self, name: str) -> None:
        """Add one."""
        ...

    @query(who="anyone")
    async def some(self) -> list[str]:
        """The names of some."""
        ...
'''
_MODULE = '''
"""Items, version {version}."""

from __future__ import annotations

import os
from typing import final

from sqlalchemy import Column, Integer, Table, Text, insert, select
from {package}.contract import Items

from tenfold import Database, new_id
from tenfold.tables.columns import Uuid, metadata, tenant

METADATA = metadata()
ITEMS = Table(
    "items",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("name", Text, nullable=False),
    {column},
)
ADD = insert(ITEMS)
SOME = select(ITEMS).limit(5)


@final
class ItemsModule(Items):
    """Items."""

    metadata = METADATA
    db: Database

    async def add(self, name: str) -> None:
        await self.db.execute(ADD, id=new_id(), name=name, {value})

    async def some(self) -> list[str]:
        return [row.name for row in await self.db.all(SOME)]


async def seed(items: Items) -> None:
    await items.add("seeded")


def build(items: Items):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                kind = (await receive())["type"]
                await send({{"type": kind + ".complete"}})
                if kind.endswith("shutdown"):
                    return
        while (await receive()).get("more_body"):
            pass
        if scope["method"] == "POST":
            await items.add("posted")
        else:
            await items.some()
        headers = [(b"content-length", b"1")]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": b"{version}"}})

    return app
'''
_HEAD = '"""{doc}"""\nimport sqlalchemy as sa\nfrom alembic import op\n'
_REVISIONS = {
    1: _HEAD.format(doc="Items.")
    + """
from tenfold.tables.columns import Uuid, tenant
revision, down_revision = "0001", None
def upgrade():
    op.create_table(
        "items",
        tenant(),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("legacy", sa.Text, nullable=False),
    )
""",
    2: _HEAD.format(doc="A size; the legacy is no longer required.")
    + """
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("items", sa.Column("size", sa.Integer))
    op.alter_column("items", "legacy", nullable=True)
""",
    3: _HEAD.format(doc="Sizes of old items.")
    + """
from tenfold.tables.backfilling import Backfill
revision, down_revision = "0003", "0002"
backfill = Backfill(
    table="items", key=("tenant", "id"), values={"size": "length(name)"}, where="size IS NULL",
    batch=100, pause_s=0.01,
)
def upgrade():
    pass
""",
    4: _HEAD.format(doc="No legacy.")
    + """
revision, down_revision = "0004", "0003"
phase = "after"
def upgrade():
    op.drop_column("items", "legacy")
""",
    5: _HEAD.format(doc="Found by name.")
    + """
revision, down_revision = "0005", "0004"
phase = "after"
transactional = False
def upgrade():
    op.create_index(
        "items_name_index", "items", ["tenant", "name"],
        postgresql_concurrently=True, if_not_exists=True,
    )
""",
}
_COLUMNS = {
    1: ('Column("legacy", Text, nullable=False)', 'legacy="old"'),
    2: ('Column("size", Integer)', "size=len(name)"),
}


def write_version(
    folder: Path, version: int, url: str, *, package: str = "kit", port: int = 0
) -> None:
    """Put a version's code on the disk, in the place of the one that is there."""
    migrations = folder / package / "migrations"
    migrations.mkdir(parents=True, exist_ok=True)
    (folder / package / "__init__.py").touch()
    (folder / "tenfold.toml").write_text(_TOML.format(package=package, url=url, port=port))
    (folder / package / "contract.py").write_text(_CONTRACT)
    column, value = _COLUMNS[version]
    module = _MODULE.format(package=package, version=version, column=column, value=value)
    if version == 2:
        module = module.replace(
            "ADD = insert", 'Index("items_name_index", ITEMS.c.tenant, ITEMS.c.name)\nADD = insert'
        ).replace("import Column, Integer", "import Column, Index, Integer")
    (folder / package / "module.py").write_text(module)
    for number, text in _REVISIONS.items():
        if version == 2 or number == 1:
            (migrations / f"{number:04}.py").write_text(text)


class SupervisedShop(Supervised):
    """The product under `tenfold run`, in two web processes and a worker."""

    def __init__(self, folder: Path, url: str, *, sheds: bool = False) -> None:
        self._url = url
        self._sheds = sheds
        super().__init__(folder, app="1")

    def write(self, **settings: float) -> None:
        """Nothing: `deploy` writes the topology file as well."""

    def deploy(self, app: str) -> None:
        """Put the code of a version on the disk."""
        write_version(self.folder, int(app), self._url, port=self.port)

    def start(self) -> None:
        """Start it anew."""
        self._begins_at = self.log.stat().st_size if self.log.exists() else 0
        code = "import sys; from tenfold.cli.entry import main; sys.exit(main())"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "run", "--topology", "growth"],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                # Two versions may have the same size and second, which is all that a .pyc knows.
                env={
                    **os.environ,
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "TENFOLD_SHEDDING__ENABLED": str(self._sheds).lower(),
                },
            )
