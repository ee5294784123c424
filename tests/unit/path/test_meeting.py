"""Turns, signals, positions and proxies: where messages meet each other."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol, cast

import pytest

from tenfold.contracts.contract import Contract, read_contract
from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.contracts.operations import query
from tenfold.path import positions
from tenfold.path.operations import CompiledOperation
from tenfold.path.positions import Positions
from tenfold.path.proxies import CallOptions, Proxy, keyed, stale_ok
from tenfold.path.signals import Signal
from tenfold.path.turns import Turns

# --- Turns ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_turns_of_one_key_are_taken_one_by_one_in_order() -> None:
    turns = Turns()
    seen: list[str] = []

    async def take(name: str) -> None:
        async with turns.take("key"):
            seen.append(f"{name} in")
            await asyncio.sleep(0)
            seen.append(f"{name} out")

    await asyncio.gather(*(take(name) for name in "abc"))
    assert seen == ["a in", "a out", "b in", "b out", "c in", "c out"]


@pytest.mark.anyio
async def test_turns_of_different_keys_do_not_wait_for_each_other() -> None:
    turns = Turns()
    async with turns.take("one"), asyncio.timeout(1), turns.take("two"):
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["fails", "is cancelled while it waits"])
async def test_a_turn_passes_on_when_a_call_ends_early(how: str) -> None:
    turns = Turns()
    if how == "fails":
        with pytest.raises(ZeroDivisionError):
            async with turns.take("key"):
                raise ZeroDivisionError
    else:
        async with turns.take("key"):
            waiting = asyncio.create_task(_pass_through(turns))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(1), turns.take("key"):
        pass
    assert turns._locks == {}  # what nobody waits for is forgotten


async def _pass_through(turns: Turns) -> None:
    async with turns.take("key"):
        pass


# --- Signals -------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_signal_wakes_all_who_wait_and_remembers_nothing() -> None:
    signal = Signal()
    signal.fire()
    waiting = [asyncio.create_task(signal.wait(5)) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    signal.fire()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await signal.wait(0.001) is False


@pytest.mark.anyio
async def test_who_gave_up_waiting_is_not_in_the_way() -> None:
    signal = Signal()
    gone = asyncio.create_task(signal.wait())
    here = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    gone.cancel()
    signal.fire()
    assert await here is True
    assert gone.cancelled() or not gone.done()


# --- Positions -----------------------------------------------------------------------------------


class Sums(Contract, Protocol):
    """Sums."""

    @query(who="anyone", projections=["totals"])
    async def total(self) -> int:
        """From a projection."""
        ...

    @query(who="anyone")
    async def count(self) -> int:
        """From the module's own tables."""
        ...


SPECS = read_contract(Sums).operations


class _Progress:
    """A projection that has worked its sources up to these positions."""

    def __init__(self, at: dict[str, int]) -> None:
        self.at = at
        self.asked: list[tuple[str, str, int]] = []
        self.signal = Signal()

    async def reached(self, projection: str, source: str, position: int) -> bool:
        self.asked.append((projection, source, position))
        return self.at.get(source, 0) >= position

    async def wait(self) -> None:
        await self.signal.wait()


class _Operation:
    def __init__(self, name: str) -> None:
        self.spec = SPECS[name]
        self.module = type("M", (), {"name": "sums"})()


def operation(name: str = "total") -> CompiledOperation:
    return cast("CompiledOperation", _Operation(name))


def following(at: dict[str, int]) -> tuple[Positions, _Progress]:
    progress = _Progress(at)
    return Positions({"sales": "e1", "stock": "e2"}, {"sums": progress}), progress


def test_a_token_names_module_epoch_and_position() -> None:
    made, _ = following({})
    assert made.token("sales", 7) == "sales.e1.7"
    assert made.token("sales", 0) is None


@pytest.mark.anyio
async def test_what_a_token_says_is_waited_for() -> None:
    made, progress = following({"sales": 6, "stock": 2})
    waiting = asyncio.create_task(made.reached(operation(), "sales.e1.7, stock.e2.2"))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    progress.at["sales"] = 7
    progress.signal.fire()
    assert await waiting is True
    assert ("totals", "stock", 2) in progress.asked


@pytest.mark.anyio
async def test_waiting_for_a_projection_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "WAIT_S", 0.01)
    made, _ = following({"sales": 6})
    assert await made.reached(operation(), "sales.e1.7") is False


@pytest.mark.anyio
@pytest.mark.parametrize(
    "token",
    [
        "",
        ",,,",
        "sales",
        "sales.e1",
        "sales.e1.7.8",
        "sales.e1.",
        "sales.e1.-7",
        "sales.e1.+7",
        "sales.e1.7_0",
        "sales.e1.²",
        "sales.e1.٣",
        "sales.e0.7",
        "nobody.e1.7",
        "sales.e1." + "9" * 19,
        "x" * 5000,
    ],
)
async def test_a_token_that_makes_no_sense_asks_for_nothing(token: str) -> None:
    made, progress = following({})
    assert await made.reached(operation(), token) is True
    assert progress.asked == []


@pytest.mark.anyio
async def test_a_query_without_projections_waits_for_nothing() -> None:
    made, progress = following({})
    assert await made.reached(operation("count"), "sales.e1.7") is True
    assert progress.asked == []


# --- Proxies -------------------------------------------------------------------------------------


class _Calls:
    def __init__(self) -> None:
        self.seen: list[tuple[str, CallOptions, tuple[Any, ...], dict[str, Any]]] = []

    async def __call__(
        self, name: str, options: CallOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.seen.append((name, options, args, kwargs))


def proxied() -> tuple[Any, _Calls]:
    calls = _Calls()
    return Proxy("Sums", ("total", "count"), calls, CallOptions()), calls


@pytest.mark.anyio
async def test_a_proxy_hands_a_call_on_as_it_was_made() -> None:
    sums, calls = proxied()
    await sums.total(1, day="mon")
    assert calls.seen == [("total", CallOptions(), (1,), {"day": "mon"})]
    assert repr(sums) == "<a proxy of Sums>"


def test_a_proxy_has_the_operations_of_its_contract_and_nothing_else() -> None:
    sums, _ = proxied()
    with pytest.raises(AttributeError, match=r"has no operation .sum.\. It offers: total, count"):
        sums.sum()


@pytest.mark.anyio
async def test_options_add_up_and_leave_the_proxy_as_it_was() -> None:
    sums, calls = proxied()
    someone = Principal(id="p")
    other = keyed(stale_ok(sums), "k").tenfold_with({"principal": someone})
    await other.total()
    await sums.total()
    assert calls.seen[0][1] == CallOptions(decision=False, key="k", principal=someone)
    assert calls.seen[1][1] == CallOptions(decision=True, key=None, principal=None, tenant="main")


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_a_key_has_1_to_255_characters(key: str) -> None:
    sums, _ = proxied()
    with pytest.raises(InvalidArgumentsError, match="1 to 255 characters"):
        keyed(sums, key)
    assert keyed(sums, "k" * 255) is not sums
