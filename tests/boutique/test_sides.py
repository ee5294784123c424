"""All sides of the topology tax do the same: what one process answers, every fleet answers."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from benchmarks.boutique.sides import CASES, sides_of
from tests.boutique.answers import answers_of

pytestmark = pytest.mark.campaign

ALONE = {"memory": "Tenfold together", "database": "Tenfold on SQLite"}
SIDES = [(case, name) for case in CASES for name in sides_of(case) if name != ALONE[case]]


@cache
def answers_of_one_process(case: str) -> list[Any]:
    with sides_of(case)[ALONE[case]]("") as side:
        return answers_of(side.port)


@pytest.mark.parametrize(("case", "name"), SIDES)
def test_a_side_answers_as_one_process_does(case: str, name: str, postgres_url: str) -> None:
    with sides_of(case)[name](postgres_url) as side:
        assert answers_of(side.port) == answers_of_one_process(case)
