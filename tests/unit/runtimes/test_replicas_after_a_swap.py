"""Replicas are not asked for a generation's tables before they have what the swap had."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tenfold.ports.projections import GenerationState
from tenfold.runtimes.postgres_stores import _OpenedSchema


class Held:
    """What an opened module asks of its store, its generations and the replicas."""

    def __init__(self) -> None:
        self.generations: Any = {"sales": 1}
        self.refresh_generations: Any = None
        self.required: list[Any] = []

    def require_now(self) -> None:
        self.required.append(self.generations)

    async def state(self) -> dict[str, GenerationState]:
        return {"sales": GenerationState(active=3, building=None)}


@pytest.mark.anyio
async def test_replicas_are_told_before_queries_read_from_another_generation() -> None:
    held = Held()
    resources: Any = type("Resources", (), {"generations": held})
    some = cast("Any", held)
    opened = _OpenedSchema(some, some, resources, some, [], some)
    opened.replicas = some
    opened.answer_from("sales", 1)
    assert held.required == []
    opened.answer_from("sales", 2)
    assert held.required == [{"sales": 1}]
    await opened.refresh_generations()
    assert held.required == [{"sales": 1}, {"sales": 2}]
    assert held.generations == {"sales": 3}
