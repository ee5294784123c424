"""Reading a module's background handlers."""

from __future__ import annotations

from tenfold import Event, job, subscribe
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
