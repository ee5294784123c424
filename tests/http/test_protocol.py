"""The protocol under the edge: framing that is wrong or without an end, targets, upgrades."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest

from tenfold.edges.http.app import http_app
from tenfold.edges.http.settings import HttpSettings
from tenfold.runtimes.http_protocol import bounded_protocol
from tests.http.serving import read_answer, serving, talk
from tests.http.shop import PRODUCT, ShopEntry, make_product

SETTINGS = HttpSettings(body_timeout_s=5, allowed_hosts=("127.0.0.1",))
HEAD = b"Host: 127.0.0.1\r\n"
CHUNKED = HEAD + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
LIVE = b"/_tenfold/live"


@pytest.fixture(scope="module")
def entry() -> ShopEntry:
    return ShopEntry()


@pytest.fixture(scope="module")
def port(entry: ShopEntry) -> Iterator[int]:
    protocol = bounded_protocol(max_head_bytes=8_192, head_timeout_s=5)
    with serving(http_app(entry, make_product(SETTINGS)), protocol) as port:
        yield port


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


@pytest.mark.parametrize(
    "raw",
    [
        b"PUT /v1/notes HTTP/1.1\r\n" + CHUNKED + b"zz\r\n",
        b"PUT /v1/notes HTTP/1.1\r\n" + CHUNKED + b"2\r\n{}zz\r\n",
        b"PUT /v1/notes HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
        b"nonsense\r\n\r\n",
    ],
)
def test_framing_that_cannot_be_read_is_400(port: int, entry: ShopEntry, raw: bytes) -> None:
    entry.calls.clear()
    answer = talk(port, raw)
    assert status(answer) == 400, answer
    assert b'"code":"http.unreadable"' in answer
    assert entry.calls == []


def test_an_answer_to_an_earlier_request_is_not_taken_for_that_of_a_broken_one(port: int) -> None:
    fine = b"GET " + LIVE + b" HTTP/1.1\r\n" + HEAD + b"\r\n"
    answer = talk(port, fine + b"nonsense\r\n\r\n")
    assert status(answer) in (0, 200)


@pytest.mark.parametrize("field", [b"X-%d: 1\r\n", b"x%d"])
def test_trailers_without_an_end_are_431(port: int, field: bytes) -> None:
    start = b"PUT /v1/notes HTTP/1.1\r\n" + CHUNKED + b'a\r\n{"note":1}\r\n0\r\n'
    parts = [b"".join(field % n for n in range(at, at + 500)) for at in range(0, 20_000, 500)]
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            for part in (start, *parts):
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            return  # it was hung up on, long before all was sent
        try:
            assert status(read_answer(connection)) == 431
        except ConnectionResetError:
            return


def test_trailers_are_read_over(port: int) -> None:
    head = b"PUT /v1/notes HTTP/1.1\r\n" + CHUNKED
    answer = talk(port, head + b'a\r\n{"note":1}\r\n0\r\n', b"Host: evil.example\r\n\r\n")
    assert status(answer) == 204


def test_the_server_as_a_whole_has_options(port: int) -> None:
    assert status(talk(port, b"OPTIONS * HTTP/1.1\r\n" + HEAD + b"\r\n")) == 204
    assert status(talk(port, b"GET * HTTP/1.1\r\n" + HEAD + b"\r\n")) == 404


@pytest.mark.parametrize(
    ("target", "hosts", "expected"),
    [
        (LIVE, b"", 400),
        (LIVE, HEAD + b"Host: evil.example\r\n", 400),
        (LIVE, b"Host: evil.example\r\n", 421),
        (b"http://127.0.0.1" + LIVE, HEAD, 200),
        (b"http://127.0.0.1:80" + LIVE, b"Host: evil.example\r\n", 200),
        (b"http://evil.example" + LIVE, HEAD, 421),
        (b"http://127.0.0.1@evil.example" + LIVE, HEAD, 421),
        (b"http://127.0.0.1" + LIVE, b"", 400),
        (b"http://evil.example", HEAD, 421),
    ],
)
def test_the_host_that_a_request_is_for(
    port: int, target: bytes, hosts: bytes, expected: int
) -> None:
    answer = talk(port, b"GET " + target + b" HTTP/1.1\r\n" + hosts + b"\r\n")
    assert status(answer) == expected, answer


def test_a_request_for_another_protocol_is_answered_in_this_one_without_a_word(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING, logger.name):
            line = f"GET /v1/products/{PRODUCT} HTTP/1.1\r\n".encode()
            answer = talk(port, line + HEAD + upgrade)
    finally:
        logger.removeHandler(caplog.handler)
    assert status(answer) == 200
    assert caplog.records == []
