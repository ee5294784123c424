"""What is too much is turned away before it is any work, and counted to the last."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from tenfold.contracts.structs import Struct
from tenfold.edges.http.app import http_app
from tenfold.edges.http.front import Front
from tenfold.path.door import Door
from tenfold.path.shedding import Arrival, Shedder, SheddingSettings
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.front_protocol import fronted
from tenfold.runtimes.http_protocol import bounded_protocol
from tests.http.serving import read_answer, serving, talk
from tests.http.shop import PRODUCT, ShopEntry, make_product

ROOM = 4
GET = b"GET /v1/products/newest HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"HEAD /v1/products/newest HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LIVE = b"GET /_tenfold/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
PUT = (
    b"PUT /v1/notes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b'Content-Length: 10\r\n\r\n{"note":1}'
)


class Full:
    """A shop that is served, and can be filled."""

    def __init__(self) -> None:
        self.entry = ShopEntry()
        settings = SheddingSettings(first=ROOM, least=ROOM, most=ROOM)
        self.shedder = Shedder(settings, SystemClock())
        product = make_product()
        self.product = msgspec.structs.replace(
            product, door=Door(product.operations, shedder=self.shedder)
        )
        self._held: list[Arrival] = []
        self.port = 0

    def fill(self) -> None:
        self._held += [self.shedder.take("main") for _ in range(2 * ROOM)]

    def empty(self) -> None:
        while self._held:
            self._held.pop().leave()

    def await_nobody(self) -> None:
        """Return when all that was counted has left."""
        until = time.monotonic() + 10
        while self.shedder.counts.present:
            assert time.monotonic() < until, self.shedder.counts
            time.sleep(0.001)


@pytest.fixture(scope="module", params=["front", "application"])
def served(request: pytest.FixtureRequest) -> Iterator[Full]:
    full = Full()
    protocol = bounded_protocol(max_head_bytes=8_192, head_timeout_s=5)
    if request.param == "front":
        protocol = fronted(protocol, Front(full.product, full.shedder))
    with serving(http_app(full.entry, full.product), protocol) as port:
        full.port = port
        yield full


@pytest.fixture
def full(served: Full) -> Iterator[Full]:
    served.entry.calls.clear()
    served.fill()
    yield served
    served.empty()
    served.await_nobody()


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


class Refused(Struct):
    code: str
    outcome: str
    status: int


@pytest.mark.parametrize("raw", [GET, PUT, HEAD])
def test_a_full_process_refuses_with_nothing_done(full: Full, raw: bytes) -> None:
    answer = talk(full.port, raw)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status(answer) == 503, answer
    assert b"retry-after: " in head
    assert full.entry.calls == []
    if raw is not HEAD:
        told = msgspec.json.decode(body, type=Refused)
        assert (told.code, told.outcome, told.status) == ("admit.overloaded", "not_done", 503)


def test_a_connection_goes_on_after_a_refusal(full: Full) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        for raw in (GET, PUT, GET):
            connection.sendall(raw)
            assert status(read_answer(connection)) == 503
        full.empty()
        for raw in (PUT, GET):
            connection.sendall(raw)
            assert status(read_answer(connection)) in (200, 204)
    assert len(full.entry.calls) == 2


def test_refusals_come_in_the_order_of_what_was_asked(full: Full) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(GET + LIVE + PUT + GET)
        connection.settimeout(20)
        received = b""
        while received.count(b"HTTP/1.1 ") < 4 or not received.endswith(b"}"):
            received += connection.recv(65536)
    answers = received.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"503", b"200", b"503", b"503"]


def test_a_client_that_closes_is_told_and_closed(full: Full) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert status(read_answer(connection)) == 503
        assert connection.recv(10) == b""


def test_a_body_in_two_parts_is_refused_without_harm_to_what_follows(full: Full) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(PUT[:-5])
        time.sleep(0.05)  # so that it comes in two parts
        connection.sendall(PUT[-5:])
        assert status(read_answer(connection)) == 503
    assert full.entry.calls == []


def test_a_body_that_looks_like_a_request_is_none(full: Full) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(
            PUT.partition(b"\r\n\r\n")[0].replace(b": 10", b": %d" % len(GET)) + b"\r\n\r\n"
        )
        time.sleep(0.05)  # so that the body comes alone
        connection.sendall(GET)
        assert status(read_answer(connection)) == 503
        connection.sendall(LIVE)
        assert status(read_answer(connection)) == 200


@pytest.mark.parametrize("cut", [1, 5, len(GET) - 2])
def test_a_head_in_two_parts_is_answered_once(full: Full, cut: int) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(GET[:cut])
        time.sleep(0.02)  # so that it comes in two parts
        connection.sendall(GET[cut:])
        assert status(read_answer(connection)) == 503
        connection.sendall(LIVE)
        assert status(read_answer(connection)) == 200


def test_an_end_of_head_alone_is_no_request(full: Full) -> None:
    with socket.create_connection(("127.0.0.1", full.port), timeout=20) as connection:
        connection.sendall(b"\r\n")
        time.sleep(0.02)
        connection.sendall(GET)
        assert status(read_answer(connection)) == 503


def with_field(field: bytes) -> bytes:
    return GET.replace(b"\r\n\r\n", b"\r\n" + field + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "decided"),
    [
        (GET, True),
        (GET.replace(b"newest", b"newest?a=%20b"), True),
        (GET.replace(b"GET", b"POST"), False),  # no operation's
        (with_field(b"Cookie: a=b; origin=c"), True),
        (with_field(b"X-Content-Length: 5"), True),
        (LIVE, False),
        (HEAD, False),
        (PUT, False),
        (GET + GET, False),
        (GET[:-2], False),
        (b"\r\n" + GET, False),
        (GET.replace(b"HTTP/1.1", b"HTTP/1.0"), False),
        (GET.replace(b"\r\n", b"\n"), False),
        (GET.replace(b"localhost", b"local\nhost"), False),
        (GET.replace(b"localhost", b"local\0host"), False),
        (GET.replace(b"/v1", b"http://localhost/v1"), False),
        (GET.replace(b"newest", b"newest#x"), False),
        (with_field(b"Content-Length: 0"), False),
        (with_field(b"content-LENGTH:0"), False),
        (with_field(b"Content-Length : 5"), False),
        (with_field(b" Content-Length: 5"), False),
        (with_field(b"Transfer-Encoding: chunked"), False),
        (with_field(b"Origin: https://elsewhere.example"), False),
        (with_field(b"Expect: 100-continue"), False),
        (with_field(b"Connection: close"), False),
        (with_field(b"Upgrade: websocket"), False),
        (with_field(b"no colon"), False),
    ],
)
def test_only_a_plain_request_is_turned_away_unparsed(raw: bytes, decided: bool) -> None:
    full = Full()
    front = Front(full.product, full.shedder)
    assert not front.crowded
    full.fill()
    assert front.crowded
    assert (front.turn_away(raw) is not None) is decided


def test_who_has_room_is_not_turned_away_unparsed() -> None:
    full = Full()
    front = Front(full.product, full.shedder)
    assert front.turn_away(GET) is None
    assert full.shedder.counts.refused == 0


def test_health_is_never_turned_away(full: Full) -> None:
    assert status(talk(full.port, LIVE)) == 200


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (GET, 200),
        (PUT, 204),
        (LIVE, 200),
        (GET.replace(b"newest", str(PRODUCT).encode()), 200),
        (GET.replace(b"newest", b"nonsense"), 422),
        (GET.replace(b"/v1/products/newest", b"/nowhere"), 404),
        (GET.replace(b"GET", b"PATCH"), 405),
        (PUT.replace(b'"note"', b'"nope"'), 422),
        (PUT.replace(b":1", b":!"), 400),
    ],
)
def test_whatever_comes_of_a_request_it_leaves(served: Full, raw: bytes, expected: int) -> None:
    for _ in range(ROOM * 2):
        assert status(talk(served.port, raw)) == expected
    served.await_nobody()


def test_whoever_hangs_up_leaves(served: Full) -> None:
    for cut in (10, len(PUT) - 3, len(PUT)):
        for _ in range(ROOM):
            with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
                connection.sendall(PUT[:cut])
    served.await_nobody()
    assert status(talk(served.port, GET)) == 200


def test_a_slow_body_takes_no_room(served: Full) -> None:
    slow = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(20)]
    try:
        for connection in slow:
            connection.sendall(PUT[:-1])
        assert status(talk(served.port, GET)) == 200
        for connection in slow:
            connection.sendall(PUT[-1:])
            assert status(read_answer(connection)) == 204
    finally:
        for connection in slow:
            connection.close()


def _microseconds(work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times * 1e6


def test_a_refusal_at_the_front_costs_microseconds() -> None:
    """Of the head, the decision and the answer; reading and writing come on top."""
    full = Full()
    front = Front(full.product, full.shedder)
    full.fill()

    def refuse() -> None:
        assert front.turn_away(GET) is not None

    took_us = min(_microseconds(refuse, 2_000) for _ in range(5))
    print(f"\na refusal: {took_us:.2f} us")
    assert took_us < 50
