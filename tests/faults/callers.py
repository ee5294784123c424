"""Callers of several kinds who keep their connections, never repeat, and note every failure."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from collections import Counter
from http.client import HTTPConnection, HTTPException
from random import Random
from typing import Any

import httptools

__all__ = ["Callers"]

_THINK_S = 0.4
_TIMEOUT_S = 30.0


class Callers:
    """Load on one port, from `start` to `stop`; `failures` must be empty afterwards.

    Args:
        raw: connections that speak over plain sockets, in all the ways in which a
            request can be cut; as many threads with `http.client` and `urllib` as `threads`.
        path: what is asked for.
        hurry: whether some ask again as soon as they are answered.
        posts: whether some send a body, by a method that nobody may repeat.
        seed: what chance begins with.
    """

    def __init__(
        self,
        port: int,
        *,
        raw: int = 40,
        threads: int = 2,
        path: str = "/",
        seed: int = 0,
        posts: bool = True,
        hurry: bool = True,
    ) -> None:
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        """How many answers there were of each body."""
        self.statuses: Counter[int] = Counter()
        self.connections = 0
        self._port = port
        self._raw = raw
        self._count = threads
        self._path = path
        self._seed = seed
        self._posts = posts
        self._hurry = hurry
        self._stop = threading.Event()
        self._some = threading.Condition()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin, and return when some answers have come."""
        targets: list[Any] = [lambda: asyncio.run(self._raw_callers())]
        for number in range(self._count):
            targets += [lambda n=number: self._kept(n), self._fresh]
        self._threads = [threading.Thread(target=target) for target in targets]
        for thread in self._threads:
            thread.start()
        self.await_answers(self._raw)

    def stop(self) -> None:
        """End, each after its last answer."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def await_answers(self, more: int) -> None:
        """Return when so many answers more have come, or a request has failed."""
        with self._some:
            wanted = sum(self.statuses.values()) + more
            assert self._some.wait_for(
                lambda: sum(self.statuses.values()) >= wanted or self.failures, _TIMEOUT_S
            )

    def _note(self, status: int, body: str) -> None:
        with self._some:
            self.statuses[status] += 1
            self.answers[body] += 1
            if status != 200:
                self.failures.append(f"{status}: {body[:200]}")
            self._some.notify_all()

    def _fail(self, kind: str, error: BaseException) -> None:
        with self._some:
            self.failures.append(f"{kind}: {error!r}")
            self._some.notify_all()

    async def _raw_callers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._raw):
                group.create_task(self._raw_caller(number))

    async def _raw_caller(self, number: int) -> None:
        random = Random(self._seed + number)
        caller: _RawCaller | None = None
        count = 0
        while not self._stop.is_set():
            try:
                if caller is None:
                    caller = await _RawCaller.connect(self._port)
                    self.connections += 1
                parts = _request(self._path, random, posts=self._posts)
                async with asyncio.timeout(_TIMEOUT_S):
                    status, body = await caller.ask(parts, random)
            except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as error:
                self._fail(f"raw {number} at its request {count}", error)
                if caller is not None:
                    caller.close()
                caller = None
                continue
            count += 1
            self._note(status, body)
            if caller.told_to_leave:
                caller.close()
                caller = None
            # A third of them hurry, the others rest for a while with the connection open.
            hurries = self._hurry and number % 3 == 0
            await asyncio.sleep(0 if hurries else random.random() * _THINK_S)
        if caller is not None:
            caller.close()

    def _kept(self, number: int) -> None:
        random = Random(self._seed - 1 - number)
        connection: HTTPConnection | None = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
                body = b"x" * 100 if self._posts and random.random() < 0.5 else None
                connection.request("POST" if body else "GET", self._path, body=body)
                reply = connection.getresponse()
                text = reply.read().decode()
            except (OSError, HTTPException) as error:
                self._fail("http.client", error)
                if connection is not None:
                    connection.close()
                connection = None
                continue
            self._note(reply.status, text)
            if reply.will_close:
                connection.close()
                connection = None
            self._stop.wait(random.random() * 0.05)
        if connection is not None:
            connection.close()

    def _fresh(self) -> None:
        while not self._stop.is_set():
            try:
                url = f"http://127.0.0.1:{self._port}{self._path}"
                with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:
                    self._note(reply.status, reply.read().decode())
            except OSError as error:
                self._fail("urllib", error)
            self._stop.wait(0.02)


def _request(path: str, random: Random, *, posts: bool) -> list[bytes]:
    """One request, in the pieces in which it is sent."""
    host = b"Host: 127.0.0.1\r\n"
    if not posts or random.random() < 0.6:
        whole = b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), host)
    else:
        size = random.choice([1, 200, 20_000])
        length = b"Content-Length: %d\r\n\r\n" % size
        whole = b"POST %b HTTP/1.1\r\n%b" % (path.encode(), host) + length + b"y" * size
    if random.random() < 0.7:
        return [whole]
    at = random.randrange(1, len(whole))
    return [whole[:at], whole[at:]]


class _RawCaller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.told_to_leave = False

    @staticmethod
    async def connect(port: int) -> _RawCaller:
        return _RawCaller(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, parts: list[bytes], random: Random) -> tuple[int, str]:
        for at, part in enumerate(parts):
            if at:
                await asyncio.sleep(random.random() * 0.05)
            self._writer.write(part)
        answer = _AnswerBeingRead()
        parser = httptools.HttpResponseParser(answer)
        while not answer.complete:
            data = await self._reader.read(65_536)
            if not data:
                raise EOFError("the connection ended before a whole answer had come")
            parser.feed_data(data)
        self.told_to_leave = not parser.should_keep_alive()
        return parser.get_status_code(), answer.body.decode()

    def close(self) -> None:
        self._writer.close()


class _AnswerBeingRead:
    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True
