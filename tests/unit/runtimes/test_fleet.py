"""What a rolling restart refuses to change, and how a fleet turns from one plan to another."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.fleet import Fleet
from tenfold.runtimes.processes import PlannedProcess, Splitting
from tenfold.runtimes.roles import Role
from tenfold.runtimes.spawning import ProcessNotStartedError
from tenfold.runtimes.topology import ProductFile, read_product_file

TEXT = """
name = "shop"
[modules]
orders = "shop:Orders"
stock = "shop:Stock"
[topologies.scale.database]
url = "postgresql://db/shop"
[topologies.scale.services.one]
modules = ["orders"]
[topologies.scale.services.other]
modules = ["stock"]
"""


def read(folder: Path, text: str) -> ProductFile:
    (folder / "tenfold.toml").write_text(text)
    return read_product_file(folder, "scale", environ={})


class Process:
    """As much of a process as a fleet sees."""

    def __init__(self, name: str, source: ProductFile, planned: PlannedProcess | None) -> None:
        self.name = name
        self.source = source
        self.planned = planned
        self.pid = id(self)
        self.ended = asyncio.Event()
        self.served_s = 0.0
        self.share: float | None = None

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    def how(self) -> str:
        return "was killed by SIGKILL"

    def reap(self) -> bool:
        return False

    async def begun(self) -> str:
        return ""

    async def stop(self, _: DrainOrder) -> None:
        self.ended.set()

    async def divert(self, share: float, _: float) -> SplitCounts:
        self.share = share
        return SplitCounts(service=1)


class Spawned:
    """A fleet whose processes are none."""

    def __init__(self, source: ProductFile, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = Fleet(source, lambda: source, never, never, never)
        self.processes: list[Process] = []
        self.again = asyncio.Event()
        monkeypatch.setattr(self.fleet, "_spawn", self._spawn)

    def _spawn(
        self, name: str, source: ProductFile, planned: PlannedProcess | None = None, task: str = ""
    ) -> Process:
        self.processes.append(Process(name, source, planned))
        self.again.set()
        return self.processes[-1]

    @property
    def names(self) -> list[str]:
        return [process.name for process in self.processes]


def never(*_: Any) -> Any:
    raise AssertionError("nothing is spawned")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("db/shop", "db/other", "database.url"),
        ('["orders"]', '["stock"]', "services"),
        ("services.one", "services.first", "services"),
    ],
)
async def test_what_needs_a_whole_new_start_is_told_before_anything_is_replaced(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    before = read(tmp_path, TEXT)
    changed = TEXT.replace(old, "@").replace(new, old).replace("@", new)
    fleet = Fleet(before, lambda: read(tmp_path, changed), never, never, never)
    with pytest.raises(UserMistakeError, match=said):
        await fleet.restart(never)


ONE = PlannedProcess(name="one-1", role=Role.ALL, service="one")
OTHER = PlannedProcess(name="other-1", role=Role.ALL, service="other")
GATEWAY = PlannedProcess(name="gateway-1", role=Role.WEB)


@pytest.mark.anyio
async def test_it_turns_to_what_is_wanted_and_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = read(tmp_path, TEXT), read(tmp_path, TEXT + "replicas = 2\n")
    spawned, told = Spawned(before, monkeypatch), []
    fleet = spawned.fleet
    await fleet.turn(before, [GATEWAY, ONE, OTHER], told.append)
    assert spawned.names == ["one-1", "other-1", "gateway-1"], "who serves people comes last"
    splitting = msgspec.structs.replace(GATEWAY, splitting=Splitting(service="one", share=0.0))
    await fleet.turn(after, [splitting], told.append)
    await fleet.end({"gateway-1", "one-1"}, told.append)
    assert spawned.names[3:] == ["gateway-1"]
    assert [process.alive for process in spawned.processes] == [True, False, False, True]
    assert told[3:] == ["gateway-1 is new.", "other-1 is gone."]
    assert fleet.names == ["one-1", "gateway-1"]
    assert fleet.runs(splitting, after)
    assert not fleet.runs(splitting, before), "it was begun by another file"
    assert not fleet.runs(GATEWAY, after)
    assert fleet.runs(ONE, before)
    assert not fleet.runs(OTHER, before)
    assert await fleet.divert(0.5, 1.0) == {spawned.processes[3].pid: SplitCounts(service=1)}
    assert spawned.processes[0].share is None
    fleet.settle(after)
    assert fleet.runs(ONE, after)
    await fleet.drain(DrainOrder())


@pytest.mark.anyio
async def test_who_is_started_again_begins_by_the_file_that_it_was_begun_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = read(tmp_path, TEXT), read(tmp_path, TEXT + "replicas = 2\n")
    spawned = Spawned(before, monkeypatch)
    await spawned.fleet.turn(before, [GATEWAY], print)
    await spawned.fleet.turn(after, [ONE], print)
    spawned.again.clear()
    spawned.processes[0].ended.set()
    async with asyncio.timeout(20):
        await spawned.again.wait()
    assert spawned.processes[2].name == "gateway-1"
    assert spawned.processes[2].source is before
    await spawned.fleet.drain(DrainOrder())


@pytest.mark.anyio
async def test_what_does_not_begin_leaves_what_there_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = read(tmp_path, TEXT), read(tmp_path, TEXT + "replicas = 2\n")
    spawned = Spawned(before, monkeypatch)
    await spawned.fleet.turn(before, [GATEWAY], print)

    async def fail(_: Process) -> str:
        raise ProcessNotStartedError("It could not begin.")

    monkeypatch.setattr(Process, "begun", fail)
    for planned in (GATEWAY, ONE):
        with pytest.raises(ProcessNotStartedError):
            await spawned.fleet.turn(after, [planned], print)
    assert spawned.fleet.runs(GATEWAY, before)
    assert [state.name for state in spawned.fleet.states] == ["gateway-1"]
    monkeypatch.undo()
    await spawned.fleet.drain(DrainOrder())
