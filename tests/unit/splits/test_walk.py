"""The steps of a split in their order, and the way back from each of them."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.fleet import Fleet
from tenfold.runtimes.processes import PlannedProcess, decide_order
from tenfold.runtimes.restarts import ProcessState
from tenfold.runtimes.services import Sockets
from tenfold.runtimes.spawning import ProcessNotStartedError
from tenfold.runtimes.splits.asked import SplitAsked, SplitRolledBackError
from tenfold.runtimes.splits.walk import Splits
from tenfold.runtimes.topology import ProductFile, read_product_file

pytestmark = pytest.mark.anyio
TEXT = """name = "shop"

[modules]
orders = "shop:Orders"
pay = "shop:Pay"

[topologies.growth.processes]
web = 1
workers = 1
"""
QUICK = SplitAsked(module="pay", step_s=0.1)
BACK = SplitAsked(module="pay", step_s=0.1, back=True)


_COUNTED = re.compile(
    r"(\d+)% of .* service: ([\d,]+) there \(0 failed\) and ([\d,]+) here \(0 failed"
)


class Recorded:
    """A fleet that begins nothing, and whose calls all go well unless it is told otherwise."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.environ: dict[str, str] = {}
        self.turning = asyncio.Lock()
        self.source = self.reread()
        self.running: dict[str, tuple[PlannedProcess, ProductFile]] = {}
        self.done: list[str] = []
        self.counts = SplitCounts()
        self.service_faults = self.here_faults = 0
        self.fails: Callable[[PlannedProcess], bool] = lambda _: False
        self.restarts = 0
        self.unprepared = False
        self.shares: list[float] = []
        self.reached: dict[float, Callable[[], Any]] = {}
        self.begin()

    def begin(self) -> None:
        planned = self.source.topology.planned
        self.running = {each.name: (each, self.source) for each in planned}

    def reread(self) -> ProductFile:
        return read_product_file(self.file, "growth", environ=self.environ)

    async def prepare(self, task: str) -> None:
        if self.unprepared:
            raise UserMistakeError("It cannot be imported.")
        self.done.append(f"prepare {task}")

    async def turn(
        self, source: ProductFile, wanted: Sequence[PlannedProcess], tell: Callable[[str], None]
    ) -> None:
        for each in decide_order(wanted):
            if self.fails(each):
                raise ProcessNotStartedError(f"{each.name} could not begin.")
            self.running[each.name] = (each, source)
            share = "" if each.splitting is None else f" {each.splitting.share:g}"
            self.done.append(f"{each.name}{share}")

    async def end(self, wanted: Collection[str], tell: Callable[[str], None]) -> None:
        for name in [each for each in self.running if each not in wanted]:
            del self.running[name]
            self.done.append(f"-{name}")

    @property
    def names(self) -> list[str]:
        return list(self.running)

    def runs(self, planned: PlannedProcess, source: ProductFile) -> bool:
        return self.running.get(planned.name) == (planned, source)

    async def divert(self, share: float, _: float) -> dict[int, SplitCounts]:
        if not self.shares or self.shares[-1] != share:
            self.shares.append(share)
            self.reached.get(share, lambda: None)()
        there, here = round(100 * share), 100 - round(100 * share)
        self.counts += SplitCounts(
            service=there,
            service_faults=min(there, self.service_faults),
            here=here,
            here_faults=min(here, self.here_faults),
        )
        return {1: self.counts}

    @property
    def states(self) -> list[ProcessState]:
        return [
            ProcessState(
                name=each.name, role=each.role, state="ready", pid=1, restarts=self.restarts
            )
            for each, _ in self.running.values()
        ]

    def settle(self, source: ProductFile) -> None:
        self.source = source
        self.running = {name: (each, source) for name, (each, _) in self.running.items()}


class Bound:
    """Sockets that are none."""

    def __init__(self) -> None:
        self.groups: set[str] = set()

    def add(self, groups: dict[str, object]) -> None:
        self.groups |= set(groups)

    def close_others(self, groups: dict[str, object]) -> None:
        self.groups &= set(groups)


class Stage:
    """A product on a file, and what it was told of."""

    def __init__(self, folder: Path, text: str = TEXT) -> None:
        self.file = folder / "tenfold.toml"
        self.file.write_text(text)
        self.fleet = Recorded(self.file)
        self.sockets = Bound()
        self.sockets.add(self.fleet.source.topology.groups)
        self.splits = Splits(cast("Fleet", self.fleet), cast("Sockets", self.sockets), {})
        self.told: list[str] = []

    async def split(self, asked: SplitAsked) -> None:
        await self.splits.split(asked, self.told.append)

    def as_before(self, text: str = TEXT) -> bool:
        """Whether file, processes and sockets are those of the file's topology, and no more."""
        topology = self.fleet.reread().topology
        return (
            self.file.read_text() == text
            and list(self.file.parent.iterdir()) == [self.file]
            and all(each.splitting is None for each, _ in self.fleet.running.values())
            and all(s.topology == topology for _, s in self.fleet.running.values())
            and {each.service for each, _ in self.fleet.running.values()}
            == {"", *topology.services}
            and self.sockets.groups == set(topology.groups)
            and not self.fleet.turning.locked()
        )


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


OUT = ["prepare before", "worker-1 0", "web-1 0", "pay-1", "worker-1", "web-1", "prepare after"]


async def test_out_and_back_take_their_steps_in_order(stage: Stage) -> None:
    await stage.split(QUICK)
    assert stage.fleet.done == OUT
    assert stage.fleet.shares == [0.01, 0.05, 0.25, 0.5, 1.0]
    assert set(stage.fleet.running) == {"web-1", "worker-1", "pay-1"}
    assert stage.fleet.source.topology.services["pay"].modules == ("pay",)
    assert stage.fleet.source.file == stage.file
    assert stage.fleet.source == stage.fleet.reread()
    assert stage.sockets.groups == {"web", "pay"}
    assert stage.told[-2:] == [
        "pay is a service of its own: pay.",
        f"{stage.file} says so now.",
    ]
    stage.fleet.done.clear()
    stage.fleet.shares.clear()
    await stage.split(BACK)
    assert stage.fleet.done == [
        "prepare before",
        "worker-1 1",
        "web-1 1",
        "-pay-1",
        "worker-1",
        "web-1",
        "prepare after",
    ]
    assert stage.fleet.shares == [0.99, 0.95, 0.75, 0.5, 0.0]
    assert stage.as_before()


BESIDE = (
    TEXT.replace('pay = "shop:Pay"', 'pay = "shop:Pay"\nstock = "shop:Stock"')
    + 'modules = ["orders", "pay"]\n\n[topologies.growth.services.depot]\nmodules = ["stock"]\n'
)


async def test_other_services_learn_where_it_is_before_it_goes(tmp_path: Path) -> None:
    stage = Stage(tmp_path, BESIDE)
    await stage.split(QUICK)
    assert stage.fleet.done[4:] == ["depot-1", "worker-1", "web-1", "prepare after"]
    text = stage.file.read_text()
    stage.fleet.done.clear()
    await stage.split(BACK)
    assert stage.fleet.done[3:] == ["depot-1", "-pay-1", "worker-1", "web-1", "prepare after"]
    assert stage.as_before(BESIDE)
    await stage.split(QUICK)
    changed = text + "# of somebody else\n"
    stage.fleet.reached[0.0] = lambda: stage.file.write_text(changed)
    stage.fleet.done.clear()
    with pytest.raises(SplitRolledBackError, match="was changed meanwhile"):
        await stage.split(BACK)
    assert stage.fleet.done[7:] == ["pay-1", "depot-1", "worker-1", "web-1"]
    assert stage.as_before(changed)


async def test_and_when_it_goes_back_from_its_last_step(tmp_path: Path) -> None:
    stage = Stage(tmp_path, BESIDE)
    changed = BESIDE + "# of somebody else\n"
    stage.fleet.reached[1.0] = lambda: stage.file.write_text(changed)
    with pytest.raises(SplitRolledBackError, match="was changed meanwhile"):
        await stage.split(QUICK)
    assert stage.fleet.done[7:] == [
        *("worker-1 1", "web-1 1"),
        *("depot-1", "-pay-1", "worker-1", "web-1"),
    ]
    assert stage.as_before(changed)


async def test_what_was_counted_is_told(stage: Stage) -> None:
    await stage.split(QUICK)
    said = [line for line in stage.told if " of the calls of pay " in line]
    assert [line.partition("%")[0] for line in said] == ["1", "5", "25", "50", "100"]
    for line in said:
        share, there, here = (int(n.replace(",", "")) for n in _COUNTED.match(line).groups())
        assert there * 100 == share * (there + here) > 0, f"of this step alone: {line}"


async def test_faults_at_the_service_take_it_back(stage: Stage) -> None:
    stage.fleet.reached[0.25] = lambda: setattr(stage.fleet, "service_faults", 5)
    with pytest.raises(SplitRolledBackError, match=r"calls failed at the service pay.*as it was"):
        await stage.split(QUICK)
    assert stage.fleet.shares == [0.01, 0.05, 0.25, 0.0]
    assert stage.fleet.done[4:] == ["-pay-1", "worker-1", "web-1"]
    assert stage.as_before()


async def test_faults_that_both_sides_have_do_not(stage: Stage) -> None:
    stage.fleet.reached[0.5] = lambda: setattr(stage.fleet, "service_faults", 5)
    stage.fleet.here_faults = 5
    stage.fleet.reached[1.0] = lambda: setattr(stage.fleet, "service_faults", 0)
    await stage.split(QUICK)


async def test_a_service_that_ends_by_itself_takes_it_back(stage: Stage) -> None:
    stage.fleet.reached[0.05] = lambda: setattr(stage.fleet, "restarts", 1)
    with pytest.raises(SplitRolledBackError, match="pay-1 ended by itself"):
        await stage.split(QUICK)
    assert stage.as_before()


async def test_code_that_cannot_be_prepared_changes_nothing(stage: Stage) -> None:
    stage.fleet.unprepared = True
    with pytest.raises(SplitRolledBackError, match="cannot be imported"):
        await stage.split(QUICK)
    assert stage.fleet.done == []
    assert stage.as_before()


@pytest.mark.parametrize(
    ("fails", "done"),
    [
        (lambda p: p.name == "pay-1", ["worker-1 0", "web-1 0", "worker-1", "web-1"]),
        (lambda p: p.splitting is not None, []),
        (
            lambda p: p.splitting is not None and p.name == "web-1",
            ["worker-1 0", "worker-1"],
        ),
    ],
)
async def test_what_cannot_begin_takes_it_back(
    stage: Stage, fails: Callable[[PlannedProcess], bool], done: list[str]
) -> None:
    stage.fleet.fails = fails
    with pytest.raises(SplitRolledBackError, match="could not begin"):
        await stage.split(QUICK)
    assert stage.fleet.done == ["prepare before", *done]
    assert stage.as_before()


async def test_from_its_last_step_it_hosts_the_module_again_before_the_service_goes(
    stage: Stage,
) -> None:
    ended = 0

    def second(planned: PlannedProcess) -> bool:
        nonlocal ended
        last = planned.name == "web-1" and stage.fleet.shares[-1:] == [1.0]
        ended += last and planned.splitting is None
        return bool(last and planned.splitting is None and ended == 1)

    stage.fleet.fails = second
    with pytest.raises(SplitRolledBackError, match="web-1 could not begin"):
        await stage.split(QUICK)
    assert stage.fleet.done[4:] == [
        "worker-1",  # hosts it no more, and then web-1 could not begin
        "worker-1 1",
        "web-1 1",
        "-pay-1",
        "worker-1",
        "web-1",
    ]
    assert stage.fleet.shares[-1] == 0.0
    assert stage.as_before()


async def test_what_cannot_be_taken_back_is_told_too(stage: Stage) -> None:
    def begin_to_fail() -> None:
        stage.fleet.service_faults = 5
        stage.fleet.fails = lambda planned: planned.name == "web-1"

    stage.fleet.reached[0.5] = begin_to_fail
    with pytest.raises(SplitRolledBackError) as caught:
        await stage.split(QUICK)
    assert "calls failed at the service pay" in str(caught.value)
    assert "Not all processes could be replaced" in str(caught.value)
    assert "as it was before." not in str(caught.value)
    assert stage.fleet.shares[-1] == 0.0, "nothing is asked of the service any more"
    assert "pay-1" not in stage.fleet.running


async def test_faults_here_keep_it_in_its_service(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    await stage.split(QUICK)
    text = stage.file.read_text()
    stage.fleet.reached[0.75] = lambda: setattr(stage.fleet, "here_faults", 5)
    with pytest.raises(SplitRolledBackError, match="calls failed in the web processes"):
        await stage.split(BACK)
    assert stage.fleet.shares[-1] == 1.0
    assert stage.as_before(text)
    assert set(stage.fleet.running) == {"web-1", "worker-1", "pay-1"}


async def test_who_gives_up_has_it_taken_back(stage: Stage) -> None:
    task = asyncio.create_task(stage.split(QUICK))
    stage.fleet.reached[0.25] = lambda: asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.as_before()


async def test_a_product_that_ends_takes_nothing_back(stage: Stage) -> None:
    task = asyncio.create_task(stage.split(QUICK))

    def end() -> None:
        stage.splits.stop()
        task.cancel()

    stage.fleet.reached[0.25] = end
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.fleet.shares[-1] == 0.25
    assert stage.file.read_text() == TEXT, "it starts as it was"


async def test_a_file_that_was_changed_meanwhile_is_left_and_it_goes_back(stage: Stage) -> None:
    changed = TEXT + "# of somebody else\n"
    stage.fleet.reached[1.0] = lambda: stage.file.write_text(changed)
    with pytest.raises(SplitRolledBackError, match="was changed meanwhile"):
        await stage.split(QUICK)
    assert stage.as_before(changed)


async def test_what_was_changed_meanwhile_brings_a_service_back_too(stage: Stage) -> None:
    await stage.split(QUICK)
    changed = stage.file.read_text() + "# of somebody else\n"
    stage.fleet.reached[0.0] = lambda: stage.file.write_text(changed)
    with pytest.raises(SplitRolledBackError, match="was changed meanwhile"):
        await stage.split(BACK)
    assert stage.as_before(changed)
    assert "pay-1" in stage.fleet.running


@pytest.mark.parametrize(
    ("service", "said"),
    [("web", "'web' is what the processes are called"), ("Cash-1", "`key` in `$.services`")],
)
async def test_a_name_that_cannot_be_is_told_of_the_file_as_it_would_be(
    stage: Stage, service: str, said: str
) -> None:
    with pytest.raises(UserMistakeError) as caught:
        await stage.split(SplitAsked(module="pay", service=service))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{stage.file}, as it would be")
    assert str(caught.value).endswith("Nothing was done.")
    assert (stage.fleet.done, stage.as_before()) == ([], True)


async def test_one_waits_for_the_end_of_another_and_says_so(stage: Stage) -> None:
    async with stage.fleet.turning:
        task = asyncio.create_task(stage.split(QUICK))
        while not stage.told:
            await asyncio.sleep(0)
        assert stage.told == [
            "Another restart or split is under way, whose end this one waits for."
        ]
        assert stage.fleet.done == []
    await task
    assert stage.fleet.done == OUT


async def test_what_variables_say_is_not_for_the_file_to_change(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENFOLD_PROCESSES__MODULES", "orders")
    monkeypatch.setenv("TENFOLD_SERVICES__PAY__MODULES", "pay")
    stage.fleet.environ = dict(os.environ)
    with pytest.raises(UserMistakeError, match="environment variable TENFOLD_PROCESSES__MODULES"):
        await stage.split(QUICK)
    assert stage.fleet.done == []
    assert stage.file.read_text() == TEXT
