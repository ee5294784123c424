"""An argument that Python's grammar forbids is published under its own name."""

from __future__ import annotations

from typing import Protocol

import pytest

from tenfold.contracts.contract import Contract, published_name, read_contract
from tenfold.contracts.operations import query
from tenfold.path.arguments import argument_binder


class Sales(Contract, Protocol):
    """Sales."""

    @query("GET /sales", who="anyone")
    async def between(self, from_: int = 0, to: int = 9) -> int:
        """Between two days."""
        ...


def test_an_argument_named_like_a_keyword_is_published_without_its_underscore() -> None:
    operation = read_contract(Sales).operations["between"]
    assert operation.parameters == ("from", "to")
    bind = argument_binder(operation)
    for bound in (bind((3,), {}), bind((), {"from_": 3}), bind((), {"from": 3})):
        assert (getattr(bound, "from"), bound.to) == (3, 9)


@pytest.mark.parametrize("name", ["to", "to_", "_from", "fromage_"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert published_name(name) == name
