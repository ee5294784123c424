"""A contract is read into its specification, or refused with the way to mend it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from textwrap import dedent
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec
import pytest

from tenfold.contracts.contract import ContractSpec, read_contract
from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import Kind, command, query

HEAD = """
from __future__ import annotations
from typing import Annotated, Protocol
from uuid import UUID
import msgspec
from tenfold import Contract, Event, Refusal, Struct, command, query

class Made(Event, key="id"):
    id: UUID

class Unkeyed(Event):
    id: UUID

class No(Refusal, status=404):
    '''There is none.'''
    id: UUID
"""
NAME = "written_contract"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    sys.modules.pop(NAME, None)


def written(body: str, *, bases: str = "Contract, Protocol", beside: str = "") -> Any:
    """A contract `Things` in a file of its own, with `body` as its class body."""
    module = ModuleType(NAME)
    sys.modules[NAME] = module
    text = HEAD + dedent(beside) + f"\nclass Things({bases}):\n    '''Things.'''\n"
    text += "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    exec(compile(text, NAME, "exec", dont_inherit=True), vars(module))
    return vars(module)["Things"]


def spec(body: str, **options: str) -> ContractSpec:
    return read_contract(written(body, **options))


def test_operations_and_events_stand_in_the_order_of_the_file() -> None:
    read = spec(
        """
        @command("POST /things", who="anyone", raises=[No], created="one", settled_by=[Made])
        async def make(self, name: str, count: int = 1) -> UUID:
            '''Make one.

            Or more.
            '''
        @query("GET /things/{id}", who="reader")
        async def one(self, id: UUID) -> str:
            '''One thing.'''
        @command(who="internal")
        async def drop(self) -> None: ...
        """
    )
    assert (read.name, read.doc) == ("Things", "Things.")
    assert list(read.operations) == ["make", "one", "drop"]
    assert list(read.events) == ["Made", "Unkeyed"]
    make, one, drop = read.operations.values()
    assert (make.kind, make.parameters, make.result) == (Kind.COMMAND, ("name", "count"), UUID)
    assert make.doc == "Make one.\n\nOr more."
    assert [refusal.__name__ for refusal in make.declaration.raises] == ["No"]
    assert (one.kind, one.path_parameters) == (Kind.QUERY, ("id",))
    assert drop.result is None
    assert (drop.declaration.method, drop.declaration.path) == (None, None)


def test_arguments_are_a_struct_with_the_defaults_of_the_signature() -> None:
    arguments = (
        spec(
            """
            @query(who="anyone")
            async def find(
                self, name: Annotated[str, msgspec.Meta(min_length=2)], count: int = 3
            ) -> None: ...
            """
        )
        .operations["find"]
        .arguments
    )
    assert msgspec.convert({"name": "ab"}, arguments) == arguments(name="ab", count=3)
    for wrong in ({}, {"name": "a"}, {"name": "ab", "more": 1}, {"name": "ab", "count": "3"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, arguments)


def test_private_methods_are_left_alone() -> None:
    assert spec("def _mine(self): ...").operations == {}


@pytest.mark.parametrize(
    ("body", "found", "mend"),
    [
        (
            "async def open(self) -> None: ...",
            "Things.open is public and is neither",
            "@command(...) or @query(...)",
        ),
        (
            "@query(who='anyone')\ndef one(self) -> int: ...",
            "Things.one is not `async def`",
            "asynchronous",
        ),
        (
            "@query(who='anyone')\nasync def one(self): ...",
            "Things.one has no return annotation",
            "Say what it returns, or None",
        ),
        (
            "@query(who='anyone')\nasync def one(self, *ids: int) -> int: ...",
            "takes *ids",
            "Name every argument",
        ),
        (
            "@query(who='anyone')\nasync def one(self, **ids: int) -> int: ...",
            "takes *ids",
            "Name every argument",
        ),
        (
            "@query(who='anyone')\nasync def one(self, *, id: int) -> int: ...",
            "Things.one takes id by keyword only",
            "Drop the `*`",
        ),
        (
            "@query(who='anyone')\nasync def one(self, id) -> int: ...",
            "Things.one(id) has no annotation",
            "Give it a type",
        ),
        (
            "@query(who='anyone')\nasync def one(self, id: Missing) -> int: ...",
            "An annotation of Things.one cannot be read: name 'Missing' is not defined",
            "Import the name outside of `if TYPE_CHECKING:`",
        ),
        (
            "@query('GET /t/{od}', who='anyone')\nasync def one(self, id: int) -> int: ...",
            "route of Things.one has {od}",
            "['id']",
        ),
        (
            "@command(who='anyone', turn='od')\nasync def one(self, id: int) -> int: ...",
            "takes turns by 'od'",
            "['id']",
        ),
        (
            "@command(who='anyone', raises=[ValueError])\nasync def one(self) -> int: ...",
            "raises=<class 'ValueError'>",
            "not a Refusal",
        ),
        (
            "@command(who='anyone', created='two')\nasync def one(self) -> int: ...",
            "created='two'",
            "not a query of the same contract",
        ),
        (
            "@command(who='anyone', created='one')\nasync def one(self) -> int: ...",
            "created='one'",
            "not a query of the same contract",
        ),
        (
            "@command(who='anyone', settled_by=[Unkeyed])\nasync def one(self) -> int: ...",
            "settled_by=Unkeyed",
            "an event of the same file with a key",
        ),
    ],
)
def test_a_contract_that_cannot_work_is_refused_with_its_mend(
    body: str, found: str, mend: str
) -> None:
    with pytest.raises(ContractError) as caught:
        spec(body)
    assert found in str(caught.value)
    assert mend in str(caught.value)


def test_a_class_without_protocol_is_no_contract() -> None:
    with pytest.raises(ContractError, match=r"Write `class Things\(Contract, Protocol\):`"):
        spec("...", bases="Contract")
    with pytest.raises(ContractError, match="is not a contract"):
        read_contract(lambda: None)  # type: ignore[arg-type, return-value]


def test_an_events_key_is_one_of_its_fields() -> None:
    with pytest.raises(ContractError, match=r"Odd names key='od'.*\['id'\]"):
        spec("...", beside="class Odd(Event, key='od'):\n    id: UUID\n")


def test_an_event_of_another_file_settles_nothing() -> None:
    written("...")
    foreign = sys.modules[NAME].Made
    contract = written(
        "@command(who='anyone')\nasync def one(self) -> int: ...",
    )
    made = command(who="anyone", settled_by=[foreign])(vars(contract)["one"])
    assert made is vars(contract)["one"]
    with pytest.raises(ContractError, match="settled_by=Made"):
        read_contract(contract)


@pytest.mark.parametrize("declare", [command, query])
class TestWhatADecoratorRefuses:
    @pytest.mark.parametrize(
        "route",
        ["", "GET", "/things", "get /things", "TRACE /things", "GET things", "GET  /things"],
    )
    def test_routes_that_cannot_be_served(self, declare: Any, route: str) -> None:
        with pytest.raises(ContractError, match=r"cannot be served. Write it as \"METHOD /path"):
            declare(route, who="anyone")

    @pytest.mark.parametrize("timeout_s", [0, -1, 300.1, float("inf"), float("nan")])
    def test_time_limits_out_of_bounds(self, declare: Any, timeout_s: float) -> None:
        with pytest.raises(ContractError, match=r"outside 0 to 300 seconds.*belongs in a job"):
            declare(who="anyone", timeout_s=timeout_s)

    def test_nobody(self, declare: Any) -> None:
        with pytest.raises(ContractError, match='Say "anyone", "internal" or a permission'):
            declare(who="")

    def test_internal_with_a_route(self, declare: Any) -> None:
        with pytest.raises(ContractError, match=r"would publish it\. Drop the route"):
            declare("GET /things", who="internal")

    @pytest.mark.parametrize("timeout_s", [0.001, 300])
    def test_but_not_the_bounds_themselves(self, declare: Any, timeout_s: float) -> None:
        def method() -> None: ...

        assert declare("GET /things", who="x", timeout_s=timeout_s)(method) is method
