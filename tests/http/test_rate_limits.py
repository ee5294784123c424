"""Rate limits as HTTP tells them, and whose address counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec
import pytest

from tenfold.adapters.memory.limits import MemoryCounter
from tenfold.contracts.contract import Contract, OperationSpec, read_contract
from tenfold.contracts.envelope import ANONYMOUS
from tenfold.contracts.errors import RateLimitedError, UserMistakeError
from tenfold.contracts.operations import query
from tenfold.edges.http.app import http_app
from tenfold.edges.http.limits import Addresses
from tenfold.edges.http.settings import HttpProduct, HttpSettings, ReadinessState
from tenfold.path.door import Door
from tenfold.path.entry import Incoming, Reply
from tenfold.path.limits import LimitSettings, RateLimits, compile_policies
from tenfold.ports.clock import RandomIds, SystemClock
from tests.http.serving import serving, talk


class Desk(Contract, Protocol):
    @query("GET /v1/limited", who="anyone")
    async def limited(self) -> int: ...

    @query("GET /v1/free", who="anyone")
    async def free(self) -> int: ...


class CountingEntry:
    """Counts as the path does, and answers 7."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.names = {id(spec): name for name, spec in OPERATIONS.items()}
        self.calls = 0

    async def call(self, incoming: Incoming) -> Reply:
        name = self.names[id(incoming.operation)]
        allowances: Any = ()
        if name in self.door.limited:
            allowances = await self.door.count(
                name, incoming.principal, incoming.tenant, incoming.address
            )
        self.calls += 1
        assert incoming.trace is not None
        return Reply(value=7, trace=incoming.trace, allowances=allowances)


OPERATIONS: dict[str, OperationSpec] = {
    f"desk.{name}": spec for name, spec in read_contract(Desk).operations.items()
}
LIMITS = {
    "few": LimitSettings(rate="3/hour", per=("address",), operations=("desk.limited",)),
    "many": LimitSettings(rate="90/day", per=("principal",), operations=("desk.limited",)),
}


@pytest.fixture
def port() -> Iterator[int]:
    clock = SystemClock()
    rates = RateLimits(
        compile_policies(LIMITS, OPERATIONS),
        shared=MemoryCounter(clock),
        fallback=MemoryCounter(clock),
        processes=1,
        clock=clock,
        ids=RandomIds(),
    )
    door = Door(OPERATIONS, rates=rates)

    async def metrics() -> bytes:
        return b""

    product = HttpProduct(
        name="desk",
        version="1",
        operations=OPERATIONS,
        principal_of=lambda _: ANONYMOUS,
        readiness=lambda: ReadinessState.READY,
        metrics=metrics,
        settings=HttpSettings(trusted_proxies=("127.0.0.0/8",)),
        door=door,
    )
    with serving(http_app(CountingEntry(door), product)) as port:
        yield port


def get(port: int, path: str, client: str = "198.51.100.7") -> tuple[int, dict[str, str], bytes]:
    raw = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\n\r\n"
    head, _, body = talk(port, raw.encode()).partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in rest)
    return int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}, body


def test_an_answer_says_where_its_caller_stands(port: int) -> None:
    status, headers, _ = get(port, "/v1/limited")
    assert status == 200
    assert headers["ratelimit-policy"] == '"few";q=3;w=3600, "many";q=90;w=86400'
    assert headers["ratelimit"] == '"few";r=2;t=3600, "many";r=89;t=86400'
    assert "ratelimit" not in get(port, "/v1/free")[1]


def test_who_is_over_a_limit_is_told_when_to_come_again(port: int) -> None:
    for _ in range(3):
        assert get(port, "/v1/limited")[0] == 200
    for _ in range(3):
        status, headers, body = get(port, "/v1/limited")
        assert status == 429
        problem = msgspec.json.decode(body)
        assert problem["code"] == RateLimitedError.code
        assert problem["outcome"] == "not_done"
        assert problem["violated-policies"] == ["few"]
        after = int(headers["retry-after"])
        assert 0 < after <= 7200
        assert headers["ratelimit"] == f'"few";r=0;t={after}'
        assert headers["ratelimit-policy"] == '"few";q=3;w=3600'
        assert headers["content-type"] == "application/problem+json"
    assert get(port, "/v1/limited", client="198.51.100.8")[0] == 200
    assert get(port, "/v1/free")[0] == 200


TRUSTED = ("10.0.0.0/8", "2001:db8::/32")


@pytest.mark.parametrize(
    ("nearest", "sent", "expected"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not a proxy: whatever it says
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),  # 6.6.6.6 is its claim
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),  # proxies alone: the furthest
        ("10.0.0.1", "198.51.100.1, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "[2001:470::1]:443", "2001:470::1"),
        ("10.0.0.1", "198.51.100.1:8080", "198.51.100.1"),
        (None, "198.51.100.1", None),
    ],
)
def test_only_proxies_that_are_trusted_are_believed(
    nearest: str | None, sent: str | None, expected: str | None
) -> None:
    scope = {"client": (nearest, 1) if nearest else None}
    headers = {b"x-forwarded-for": sent.encode()} if sent else {}
    assert Addresses(TRUSTED).of(scope, headers) == expected


def test_the_header_that_is_not_theirs_is_not_believed() -> None:
    scope = {"client": ("10.0.0.1", 1)}
    headers = {b"forwarded": b'for="[2001:470::1]:1";proto=https', b"x-forwarded-for": b"6.6.6.6"}
    assert Addresses(TRUSTED, "forwarded").of(scope, headers) == "2001:470::1"
    assert Addresses(TRUSTED).of(scope, headers) == "6.6.6.6"
    hidden = {b"forwarded": b"for=_hidden"}
    assert Addresses(TRUSTED, "forwarded").of(scope, hidden) == "10.0.0.1"


def test_a_socket_file_is_a_proxy_where_it_is_said() -> None:
    headers = {b"x-forwarded-for": b"198.51.100.1"}
    assert Addresses(("unix",)).of({"client": None}, headers) == "198.51.100.1"


def test_a_network_that_is_none_is_told() -> None:
    with pytest.raises(UserMistakeError, match=r"'10\.0\.0' , which|'10\.0\.0', which"):
        Addresses(("10.0.0",))
