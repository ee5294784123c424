"""The edge behind a real server, spoken to in bytes: malformed, slow, huge, interrupted."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Iterator

import pytest

from tenfold.edges.http.app import http_app
from tenfold.edges.http.settings import HttpSettings
from tests.http.serving import read_answer, serving, talk
from tests.http.shop import PRODUCT, ShopEntry, make_product

SETTINGS = HttpSettings(body_timeout_s=0.3, disconnect_check_s=0.05, max_body_bytes=50_000)
HEAD = b"Host: 127.0.0.1\r\n"


@pytest.fixture(scope="module")
def entry() -> ShopEntry:
    return ShopEntry()


@pytest.fixture(scope="module")
def port(entry: ShopEntry) -> Iterator[int]:
    with serving(http_app(entry, make_product(SETTINGS))) as port:
        yield port


def alive(port: int) -> bool:
    answer = talk(port, b"GET /_tenfold/live HTTP/1.1\r\n" + HEAD + b"\r\n")
    return answer.startswith(b"HTTP/1.1 200 ")


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer else 0


def test_requests_share_a_connection(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for _ in range(3):
            connection.sendall(f"GET /v1/products/{PRODUCT} HTTP/1.1\r\n".encode() + HEAD + b"\r\n")
            assert status(read_answer(connection)) == 200


def test_a_body_in_chunks_is_read(port: int) -> None:
    head = b"PUT /v1/notes HTTP/1.1\r\n" + HEAD
    head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = talk(port, head, b"8\r\n" + b'{"note":' + b"\r\n", b"2\r\n1}\r\n0\r\n\r\n")
    assert status(answer) == 204


def test_a_slow_body_is_408(port: int) -> None:
    head = b"PUT /v1/notes HTTP/1.1\r\n" + HEAD
    head += b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    answer = talk(port, head)
    assert status(answer) == 408
    assert b"connection: close" in answer.lower()
    assert alive(port)


@pytest.mark.parametrize("declared", [True, False])
def test_a_huge_body_is_413_before_it_is_read_whole(port: int, declared: bool) -> None:
    head = b"PUT /v1/notes HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    if declared:
        answer = talk(port, head + b"Content-Length: 10000000000\r\n\r\n")
    else:
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        answer = talk(port, head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, chunk)
    assert status(answer) == 413
    assert alive(port)


def test_huge_headers_and_targets_are_refused(port: int) -> None:
    many = b"".join(b"X-%d: 1\r\n" % n for n in range(500))
    assert status(talk(port, b"GET / HTTP/1.1\r\n" + HEAD + many + b"\r\n")) == 431
    long = b"X-Long: " + b"a" * 40_000 + b"\r\n"
    assert status(talk(port, b"GET / HTTP/1.1\r\n" + HEAD + long + b"\r\n")) == 431
    assert status(talk(port, b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n")) == 414
    assert alive(port)


def test_a_deeply_nested_body_is_400(port: int) -> None:
    body = b'{"note":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    head = b"PUT /v1/notes HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    assert status(talk(port, head + body)) == 400
    assert alive(port)


def test_random_bytes_never_end_the_process_nor_give_a_5xx(port: int) -> None:
    chance = random.Random(20261120)
    for round_ in range(60):
        noise = chance.randbytes(chance.randrange(1, 600))
        if round_ % 3 == 0:
            raw = noise + b"\r\n\r\n"
        else:
            name = b"json" if round_ % 3 == 1 else b"msgpack"
            raw = b"POST /v1/products HTTP/1.1\r\n" + HEAD + b"Content-Type: application/" + name
            raw += b"\r\nContent-Length: %d\r\n\r\n" % len(noise) + noise
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            try:
                answer = read_answer(connection)
            except ConnectionResetError:
                answer = b""
        assert status(answer) == 0 or 400 <= status(answer) < 500, (round_, answer)
    assert alive(port)


def test_a_client_that_hangs_up_cancels_the_work(port: int, entry: ShopEntry) -> None:
    entry.calls.clear()
    entry.block = asyncio.Event()
    entry.cancelled = asyncio.Event()
    entry.began = asyncio.Event()
    cancelled, began = threading_event(entry.cancelled), threading_event(entry.began)
    try:
        connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        connection.sendall(b"GET /v1/products HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert began.wait(20)
        connection.close()
        assert cancelled.wait(20)
    finally:
        entry.block = None
    assert alive(port)


def threading_event(event: asyncio.Event) -> threading.Event:
    """An event of another loop's, as one that a thread can wait for."""
    seen = threading.Event()
    was_set = event.set

    def set_both() -> None:
        was_set()
        seen.set()

    event.set = set_both  # type: ignore[method-assign]
    return seen


def test_a_client_that_hangs_up_in_its_body_does_no_harm(port: int, entry: ShopEntry) -> None:
    entry.calls.clear()
    head = b"PUT /v1/notes HTTP/1.1\r\n" + HEAD
    head += b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
    assert alive(port)
    assert entry.calls == []


def test_a_large_body_within_the_limit_is_read(port: int) -> None:
    body = b'{"note":"' + b"x" * 49_000 + b'"}'
    head = b"PUT /v1/notes HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(body)
    assert status(talk(port, head, body[:100], body[100:])) == 204
