"""Reading a module's background handlers."""

from __future__ import annotations

import pytest

from tenfold import Event, Projection, job, subscribe
from tenfold.contracts.errors import ContractError
from tenfold.path.background import read_background


class Happened(Event):
    number: int


class Older:
    @subscribe
    async def note(self, event: Happened) -> None: ...

    @job()
    async def work(self, number: int) -> None: ...

    @subscribe
    async def given_up(self, event: Happened) -> None: ...


class Newer(Older):
    @subscribe
    async def also(self, event: Happened) -> None: ...

    @job(attempts=2)
    async def work(self, number: int) -> None: ...

    given_up = None  # type: ignore[assignment]


def test_inherited_handlers_count_unless_the_class_says_something_else() -> None:
    handlers = {spec.name: spec for spec in read_background(Newer)}
    assert list(handlers) == ["note", "work", "also"]
    assert handlers["note"].method is Older.note
    assert handlers["work"].background.attempts == 2


class Counting:
    @subscribe(batch=500, attempts=3)
    async def count(self, events: list[Happened]) -> None: ...


def test_a_subscription_may_take_lists() -> None:
    (spec,) = read_background(Counting)
    assert (spec.batch, spec.payload, spec.background.attempts) == (500, Happened, 3)


class UnsaidBatch:
    @subscribe  # type: ignore[type-var]
    async def count(self, events: list[Happened]) -> None: ...


class SaidBatch:
    @subscribe(batch=500)  # type: ignore[arg-type]
    async def count(self, event: Happened) -> None: ...


class ListOfNoEvents:
    @subscribe(batch=500)  # type: ignore[arg-type]
    async def count(self, events: list[int]) -> None: ...


class Kept(Projection):
    name = "kept"
    tables = ()

    @subscribe(batch=500)
    async def count(self, events: list[Happened]) -> None: ...


@pytest.mark.parametrize(
    ("owner", "projection", "said"),
    [
        (UnsaidBatch, None, r"takes a list of Happened\. Say how many at the most"),
        (SaidBatch, None, r"says `batch` and takes one Happened"),
        (ListOfNoEvents, None, "subscribes to nothing"),
        (Kept, "kept", "a projection is kept event by event"),
    ],
)
def test_a_list_and_its_size_go_together(owner: type, projection: str | None, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        read_background(owner, projection)


@pytest.mark.parametrize("size", [0, -1, 1001])
def test_a_batch_has_a_size_that_can_be_carried(size: int) -> None:
    with pytest.raises(ContractError, match="outside 1 to 1,000"):
        subscribe(batch=size)
