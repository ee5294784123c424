"""A product that is wired wrongly does not start, says why, and leaves nothing running."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Protocol

import pytest
from sqlalchemy import Column, Table, Text, bindparam

from tenfold import (
    Contract,
    Database,
    Event,
    Projection,
    Struct,
    command,
    job,
    publish,
    query,
    schedule,
    subscribe,
)
from tenfold.contracts.errors import ContractError, InvalidResultError, OverloadedError
from tenfold.path.projection import UnknownProjectionError
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.tables.columns import metadata, tenant
from tenfold.testing.probe.ledger_contract import Deposited
from tenfold.testing.probe.modules import AuditModule, LedgerModule

TABLES = metadata()
SEEN = Table("seen", TABLES, tenant(), Column("name", Text, primary_key=True))
ADD = SEEN.insert().values(name=bindparam("name"))
ALL = SEEN.select()


class Happened(Event, key="name"):
    name: str


class Door(Contract, Protocol):
    """A door."""

    @command(who="anyone")
    async def open(self, name: str, answer: str = "") -> int:
        """Open it."""
        ...

    @query(who="anyone")
    async def opened(self) -> list[str]:
        """Who opened it."""
        ...


class Window(Contract, Protocol):
    """A window, which no module here offers."""


class Settings(Struct):
    """What the door is told."""

    colour: str = "green"
    file: str = ""


class DoorModule(Door):
    metadata = TABLES
    db: Database
    settings: Settings

    async def open(self, name: str, answer: str = "") -> int:
        await self.db.execute(ADD, name=name)
        publish(Happened(name=name))
        self.later.enqueue(name)
        return answer or 1  # type: ignore[return-value]

    async def opened(self) -> list[str]:
        return [row.name for row in await self.db.all(ALL)]

    @job()
    async def later(self, name: str) -> None:
        """Open it again."""
        await self.db.execute(ADD, name=f"{name} later")


def product(tmp_path: Path, *modules: type, settings: dict[str, Any] | None = None) -> Product:
    return Product(
        name="house",
        root=tmp_path,
        modules={f"m{number}": cls for number, cls in enumerate(modules)},
        mounts={},
        seed=None,
        settings={"m0": settings or {}},
        topology=Topology(),
    )


def made(tmp_path: Path, *modules: type, settings: dict[str, Any] | None = None) -> Host:
    return Host(
        product(tmp_path, *modules, settings=settings),
        data_dir=tmp_path / "data",
        create_tables=True,
    )


def ours() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("tenfold-")}


async def fails_to_start(host: Host, error: type[BaseException], match: str) -> None:
    with pytest.raises(error, match=match):
        await host.start()
    assert ours() == set()


# --- What is found before anything is opened ---------------------------------------------------


class NoContract:
    pass


class TwinDoorModule(DoorModule):
    pass


class OddModule(DoorModule):
    number: int


class Again(Projection):
    name = "again"
    tables = ()
    db: Database

    @subscribe
    async def happened(self, event: Happened) -> None: ...


class AgainToo(Again):
    @subscribe
    async def happened(self, event: Happened) -> None: ...


class TwinHandlersModule(DoorModule):
    one: Again
    two: AgainToo


class ElsewhereModule(DoorModule):
    scope = "elsewhere"


class UnheardModule(DoorModule):
    @subscribe
    async def seen(self, event: Deposited) -> None: ...


class DeafModule(DoorModule):
    @subscribe
    async def nothing(self) -> None: ...


class CronModule(DoorModule):
    @schedule("99 * * * *")
    async def never(self) -> None: ...


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ((NoContract,), r"NoContract implements no contract.*`class NoContract\(Orders\):`"),
        (
            (DoorModule, TwinDoorModule),
            r"'m0' and 'm1' both implement Door\. A contract has one module",
        ),
        ((OddModule,), r"OddModule\.number is annotated <class 'int'>.*or give it a value"),
        ((TwinHandlersModule,), r"two background handlers named 'again\.happened'"),
        ((ElsewhereModule,), r"scope is 'elsewhere'\. Say \"tenant\""),
        ((UnheardModule,), r"m0\.seen subscribes to Deposited, which no module"),
        ((DeafModule,), r"DeafModule\.nothing subscribes to nothing\. Give it exactly one"),
    ],
)
def test_a_product_that_cannot_work_is_refused_when_it_is_read(
    tmp_path: Path, modules: tuple[type, ...], told: str
) -> None:
    with pytest.raises(ContractError, match=told):
        made(tmp_path, *modules)
    assert not (tmp_path / "data").exists()


def test_a_cron_expression_is_read_at_once(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"99 \* \* \* \*"):
        made(tmp_path, CronModule)


def test_an_annotation_that_is_imported_for_types_only_is_told(tmp_path: Path) -> None:
    module = type("Blind", (DoorModule,), {"__annotations__": {"x": "Nowhere"}})
    with pytest.raises(ContractError, match=r"An annotation of m0 cannot be read.*TYPE_CHECKING"):
        made(tmp_path, module)


# --- What is found at the start: nothing goes on running ---------------------------------------


class NeedyModule(DoorModule):
    window: Window


class FussyModule(DoorModule):
    def __init__(self, colour: str) -> None: ...


@pytest.mark.anyio
async def test_a_contract_that_nobody_offers_stops_the_start(tmp_path: Path) -> None:
    told = r"NeedyModule\.window needs Window, which no module.*It has: Door"
    await fails_to_start(made(tmp_path, NeedyModule), ContractError, told)


@pytest.mark.anyio
async def test_a_module_that_takes_arguments_stops_the_start(tmp_path: Path) -> None:
    told = "FussyModule cannot be made.*A module takes no arguments"
    await fails_to_start(made(tmp_path, FussyModule), ContractError, told)


@pytest.mark.anyio
async def test_settings_that_do_not_fit_stop_the_start(tmp_path: Path) -> None:
    host = made(tmp_path, DoorModule, settings={"colour": ["red"]})
    await fails_to_start(host, ContractError, "settings of module 'm0' do not fit.*colour")


@pytest.mark.anyio
async def test_tables_without_migrations_stop_the_start(tmp_path: Path) -> None:
    host = Host(product(tmp_path, DoorModule), data_dir=tmp_path / "data")
    await fails_to_start(host, ContractError, r"'m0' has tables \['seen'\] and no folder")


@pytest.mark.anyio
async def test_a_hook_that_fails_stops_the_start(tmp_path: Path) -> None:
    told: list[str] = []

    class First(LedgerModule):  # type: ignore[misc]
        async def stopping(self) -> None:
            told.append("stopping")

    class Second(AuditModule):  # type: ignore[misc]
        async def started(self) -> None:
            raise RuntimeError("the hinge is missing")

        async def stopping(self) -> None:
            told.append("never started")

    await fails_to_start(made(tmp_path, First, Second), RuntimeError, "the hinge is missing")
    assert told == ["stopping"]
    again = made(tmp_path, DoorModule)
    await again.start()
    await again.stop()


@pytest.mark.anyio
async def test_a_hook_that_fails_at_the_stop_leaves_nothing_open(tmp_path: Path) -> None:
    class Stuck(DoorModule):
        async def stopping(self) -> None:
            raise RuntimeError("the hinge is stuck")

    host = made(tmp_path, Stuck)
    await host.start()
    with pytest.raises(RuntimeError, match="the hinge is stuck"):
        await host.stop()
    assert ours() == set()


# --- What runs ----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_hooks_run_with_everything_handed_over(tmp_path: Path) -> None:
    told: list[str] = []

    class Hooked(DoorModule):
        async def started(self) -> None:
            told.append(f"started {self.settings.colour} {self.settings.file}")

        async def stopping(self) -> None:
            told.append("stopping")

    host = made(tmp_path, Hooked, settings={"colour": "red", "file": "{data}/x"})
    await host.start()
    assert told == [f"started red {tmp_path / 'data'}/x"]
    await host.stop()
    assert told[1:] == ["stopping"]
    assert ours() == set()


@pytest.mark.anyio
async def test_a_wrong_result_leaves_nothing_behind(tmp_path: Path) -> None:
    host = made(tmp_path, DoorModule)
    await host.start()
    try:
        door = host.proxy(Door)
        with pytest.raises(InvalidResultError, match="returned str"):
            await door.open("a", "nonsense")
        await host.idle()
        assert await door.opened() == []
        assert await host.modules["m0"].outbox.head() == 0
        assert await door.open("a") == 1
        await host.idle()
        assert sorted(await door.opened()) == ["a", "a later"]
    finally:
        await host.stop()


@pytest.mark.anyio
async def test_a_host_that_does_not_run_says_so(tmp_path: Path) -> None:
    host = made(tmp_path, DoorModule)
    with pytest.raises(OverloadedError, match=r"is not started\. Await `start"):
        host.proxy(Door)
    await host.start()
    door = host.proxy(Door)
    with pytest.raises(UnknownProjectionError):
        await host.rebuild("m0", "none")
    await host.stop()
    with pytest.raises(OverloadedError, match="is stopping"):
        await door.opened()


@pytest.mark.anyio
async def test_a_mount_asks_for_contracts_only(tmp_path: Path) -> None:
    def build(door: Door) -> None: ...

    def odd(number: int) -> None: ...

    def needy(window: Window) -> None: ...

    host = made(tmp_path, DoorModule)
    await host.start()
    try:
        assert await host.arguments(build)["door"].opened() == []
        with pytest.raises(ContractError, match=r"odd\(number\) is annotated <class 'int'>"):
            host.arguments(odd)
        with pytest.raises(ContractError, match=r"needy\(window\) needs Window"):
            host.arguments(needy)
    finally:
        await host.stop()
