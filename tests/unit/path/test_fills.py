"""What an answer surely has that is kept, as a token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tenfold.contracts.errors import StoreUnavailableError
from tenfold.path.fills import FillPositions, ModuleReach
from tenfold.path.kept import Kept, decide_covered
from tenfold.path.operations import RemoteOperation
from tenfold.ports.replicas import Freshness

pytestmark = pytest.mark.anyio
HEADS = {"shop": 5, "tells": 7, "other": 9}


def head(name: str) -> Callable[[], Awaitable[int]]:
    async def ask() -> int:
        return HEADS[name]

    return ask


def operation(module: str, *projections: str) -> Any:
    said = SimpleNamespace(projections=projections)
    return SimpleNamespace(
        module=SimpleNamespace(name=module),
        module_name=module,
        spec=SimpleNamespace(declaration=said),
    )


def elsewhere(module: str) -> RemoteOperation:
    """A query without projections, of a module that another process hosts."""
    made: Any = RemoteOperation.__new__(RemoteOperation)
    made.module_name = module
    made.spec = SimpleNamespace(declaration=SimpleNamespace(projections=()))
    return cast("RemoteOperation", made)


class Progress:
    """A projection that has worked every event up to a position."""

    def __init__(self, position: int) -> None:
        self.position = position

    async def reached(self, projection: str, source: str, position: int) -> bool:
        return position <= self.position

    async def wait(self) -> None:
        raise AssertionError("nobody waits for a fill")


class Log:
    server = "x"
    timeline = 3

    def __init__(self, place: int | None) -> None:
        self.place = place

    async def written(self) -> int:
        if self.place is None:
            raise StoreUnavailableError("away")
        return self.place

    async def seen(self, _: Freshness) -> int:
        raise AssertionError("nobody asks")


def positions(progress: int = 99, log: Log | None = None) -> FillPositions:
    return FillPositions(
        dict.fromkeys(HEADS, "e"),
        {"tells": Progress(progress)},
        log,
        {name: head(name) for name in HEADS},
        {
            "shop": ModuleReach(asks=("tells",)),
            "tells": ModuleReach(follows=("shop",)),
            "other": ModuleReach(),
        },
    )


async def covered(made: FillPositions, asked: Any, *on_the_way: Any) -> Kept:
    before = await made.before(asked)
    covers, reach = made.covered(asked, before, on_the_way)
    return Kept(b"", 0.0, covers, None, 0, reach)


async def test_an_answer_of_ones_own_rows_has_its_modules_log() -> None:
    kept = await covered(positions(), operation("shop"))
    assert (kept.covers, kept.reach) == ("shop.e.5", ("shop",))


async def test_an_answer_has_the_logs_of_those_that_were_asked() -> None:
    kept = await covered(positions(), operation("shop"), operation("tells"))
    assert (kept.covers, kept.reach) == ("shop.e.5,tells.e.7", ("shop", "tells"))


async def test_an_answer_of_a_projection_has_what_it_had_worked() -> None:
    kept = await covered(positions(progress=5), operation("tells", "changes"))
    assert kept.covers == "shop.e.5,tells.e.7"
    assert decide_covered(kept, "shop.e.5") == "covered"


async def test_an_answer_of_a_projection_that_lags_has_nothing_of_what_it_follows() -> None:
    kept = await covered(positions(progress=4), operation("tells", "changes"))
    assert kept.covers == "tells.e.7"
    assert decide_covered(kept, "shop.e.1") == "older"


async def test_another_modules_projection_may_have_lagged_when_it_was_asked() -> None:
    kept = await covered(positions(), operation("shop"), operation("tells", "changes"))
    assert kept.covers == "tells.e.7"
    assert decide_covered(kept, "shop.e.1") == "older"


async def test_of_another_process_nobody_knows_whom_it_asked_in_turn() -> None:
    kept = await covered(positions(), operation("other"), elsewhere("shop"))
    assert kept.reach == ("other", "shop", "tells")
    assert decide_covered(kept, "tells.e.1") == "older"
    kept = await covered(positions(), operation("shop"), elsewhere("tells"))
    assert (kept.covers, kept.reach) == ("shop.e.5,tells.e.7", ("shop", "tells"))


async def test_a_replicated_databases_place_stands_with_them() -> None:
    kept = await covered(positions(log=Log(42)), operation("shop"))
    assert kept.covers == "shop.e.5,DBx.3.42"
    assert decide_covered(kept, "DBx.3.43") == "place"
    assert decide_covered(kept, "DBx.3.42") == "covered"


async def test_a_place_that_cannot_be_asked_is_left_out() -> None:
    kept = await covered(positions(log=Log(None)), operation("shop"))
    assert kept.covers == "shop.e.5"
    assert decide_covered(kept, "DBx.3.1") == "place"
