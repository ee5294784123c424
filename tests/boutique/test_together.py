"""The boutique starts in one process, with and without a database, and serves a customer."""

from __future__ import annotations

import pytest

from benchmarks.boutique.sides import sides_of
from tests.boutique.answers import answers_of

ANSWERED = [200] * 9 + [422, 422, 200, 200, 200, 409, 404, 404, 422, 200, 409]
"""Pages and purchases; then cards that are not taken, an empty cart, what there is not."""


@pytest.mark.parametrize(
    ("case", "name"), [("memory", "Tenfold together"), ("database", "Tenfold on SQLite")]
)
def test_a_customer_is_served(case: str, name: str) -> None:
    with sides_of(case)[name]("") as side:
        answers = answers_of(side.port)
    statuses = [status for status, _ in answers]
    assert statuses == ANSWERED + [200] * (len(answers) - len(ANSWERED))
    home, cart, order, empty = (answers[at][1] for at in (0, 6, 12, 13))
    assert len(home["offers"]) == 9
    assert home["pieces"] == 0
    assert [(line["product"]["id"], line["quantity"]) for line in cart["lines"]] == [
        ("3TEAPOT003", 5),
        ("9MUGRED009", 1),
    ]
    assert order["total"] == cart["total"]
    assert [line["quantity"] for line in order["lines"]] == [5, 1]
    assert empty["lines"] == []
