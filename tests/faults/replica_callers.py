"""Callers of a product with replicas, who note what they did and what they saw, in order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, Literal

import httptools
import msgspec

__all__ = ["ReplicaCallers", "Seen"]

Kind = Literal["header", "cookie", "naive", "returning"]
KINDS: tuple[Kind, ...] = ("header", "cookie", "naive", "returning")
_REGISTERS = 30
_AWAY_S = 5.6
_TIMEOUT_S = 30.0


class Seen(msgspec.Struct, frozen=True):
    """What one caller did to, or saw of, one thing; times are on the callers' clock."""

    caller: str
    did: Literal["wrote", "read"]
    thing: str
    value: int
    began_s: float
    ended_s: float
    server: int = 0


class ReplicaCallers:
    """Callers at work until so many requests were answered; `history` is what they noted.

    A `header` caller sends the token of its last answer, a `cookie` caller what the
    product told it to keep, a `naive` caller nothing. A `returning` caller sends its
    token too, and comes back after a while: then a replica that lags has what it saw.
    """

    def __init__(self, port: int, seed: int, requests: int, callers: Mapping[Kind, int]) -> None:
        self._port = port
        self._seed = seed
        self._requests = requests
        self._callers = callers
        self.history: list[Seen] = []
        self.failures: list[str] = []
        self.answers: Counter[str] = Counter()
        self.behind = 0
        self.refused = 0
        self.slowest_s = 0.0

    @property
    def done(self) -> int:
        """Requests that were answered."""
        return self.answers.total()

    async def run(self) -> None:
        """Send all requests; returns when the last is answered."""
        async with asyncio.TaskGroup() as group:
            for kind, count in self._callers.items():
                for number in range(count):
                    group.create_task(_Caller(self, kind, number).work())

    def take(self) -> bool:
        """Whether there is one more request to be sent."""
        return self.done < self._requests and not self.failures[20:]


class _Caller:
    def __init__(self, all_: ReplicaCallers, kind: Kind, number: int) -> None:
        self._all = all_
        self._kind = kind
        self._name = f"{kind}-{number}"
        self._rng = Random(f"{all_._seed} {self._name}")
        self._favourite = self._rng.randrange(_REGISTERS)
        self._wire = _Wire(all_._port)
        self._token: str | None = None
        self._cookie: str | None = None
        self._product: str | None = None
        self._received = 0
        self._orders = 0
        self._was_behind = False

    async def work(self) -> None:
        while self._all.take():
            if self._kind == "returning":
                await self._return()
                continue
            chance = self._rng.random()
            if chance < 0.14:
                await self._step()
            elif chance < 0.20:
                await self._read_all()
            elif chance < 0.30 and self._kind != "naive":
                await self._shop()
            else:
                await self._read()
        self._wire.close()

    async def _return(self) -> None:
        """Write, go away for as long as the slow replica lags, then look around."""
        await self._step()
        await asyncio.sleep(_AWAY_S)
        for _ in range(self._rng.randrange(2, 12)):
            if self._all.take():
                await (self._read() if self._rng.random() < 0.8 else self._read_all())

    def _register(self) -> str:
        """One of all, or, half the time, one of a few that this caller likes."""
        if self._rng.random() < 0.5:
            return f"r{self._rng.randrange(_REGISTERS)}"
        return f"r{(self._favourite + self._rng.randrange(3)) % _REGISTERS}"

    async def _step(self) -> None:
        name, began_s = self._register(), time.monotonic()
        body = await self._ask("POST", f"/v1/registers/{name}", {})
        if body is not None:
            self._note("wrote", name, body["value"], began_s)

    async def _read(self) -> None:
        name, began_s = self._register(), time.monotonic()
        body = await self._ask("GET", f"/v1/registers/{name}")
        if body is not None:
            self._note("read", name, body["value"], began_s, body.get("server", 0))

    async def _read_all(self) -> None:
        began_s = time.monotonic()
        body = await self._ask("GET", "/v1/registers")
        for name, reading in (body or {}).items():
            self._note("read", name, reading["value"], began_s, reading["server"])

    async def _shop(self) -> None:
        """Something of the store, on a product of one's own; nobody else changes it."""
        began_s = time.monotonic()
        if self._product is None:
            sku = f"H-{self._rng.getrandbits(64):016x}"
            price = {"amount": "1.00", "currency": "GBP"}
            new = {"sku": sku, "name": f"Thing {sku}", "price": price}
            made = await self._ask("POST", "/v1/products", new)
            if made is not None:
                self._product, self._sku = made["id"], sku
            return
        chance = self._rng.random()
        if chance < 0.25:
            path = f"/v1/products/{self._product}/stock"
            if await self._ask("POST", path, {"quantity": 3}) is not None:
                self._received += 3
        elif chance < 0.6:
            body = await self._ask("GET", f"/v1/products/{self._product}/stock")
            if body is not None:
                self._wants("its stock", sum(body.values()), self._received, began_s)
        elif chance < 0.8:
            body = await self._ask("GET", f"/v1/products?search={self._sku}")
            if body is not None:
                self._wants("its product", len(body["items"]), 1, began_s)
        elif chance < 0.88:
            line = {"product_id": self._product, "quantity": 1}
            order = {"customer_id": self._name, "lines": [line]}
            if await self._ask("POST", "/v1/orders", order) is not None:
                self._orders += 1
        else:
            body = await self._ask("GET", f"/v1/customers/{self._name}/orders?limit=100")
            if body is not None and not self._was_behind:
                self._wants("its orders", len(body["items"]), min(self._orders, 100), began_s)

    def _wants(self, what: str, found: int, least: int, began_s: float) -> None:
        """Note a thing of one's own as written to what it must be, and read as it was found."""
        thing, now_s = f"{what} of {self._name}", time.monotonic()
        self._all.history += [
            Seen(self._name, "wrote", thing, least, began_s, began_s),
            Seen(self._name, "read", thing, found, began_s, now_s),
        ]

    def _note(
        self, did: Literal["wrote", "read"], thing: str, value: int, began_s: float, server: int = 0
    ) -> None:
        now_s = time.monotonic()
        self._all.history.append(Seen(self._name, did, thing, value, began_s, now_s, server))

    async def _ask(self, method: str, path: str, body: Any = None) -> Any:
        began_s = time.monotonic()
        headers = {}
        if self._token is not None and self._kind in ("header", "returning"):
            headers["tenfold-position"] = self._token
        if self._cookie is not None and self._kind == "cookie":
            headers["cookie"] = self._cookie
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                status, got, raw = await self._wire.ask(method, path, headers, body)
        except (OSError, EOFError, TimeoutError, httptools.HttpParserError) as error:
            self._wire.close()
            self._all.failures.append(f"{self._name} {method} {path}: {error!r}")
            return None
        if status == 503 and b"admit.overloaded" in raw:
            self._all.refused += 1  # not begun; a busy machine turns some away
            await asyncio.sleep(0.3)
            return None
        if status not in (200, 201):
            self._all.failures.append(f"{self._name} {method} {path}: {status} {raw!r}")
            return None
        self._all.slowest_s = max(self._all.slowest_s, time.monotonic() - began_s)
        self._all.answers[self._kind] += 1
        self._token = got.get("tenfold-position", self._token)
        if "set-cookie" in got:
            self._cookie = got["set-cookie"].partition(";")[0]
        self._was_behind = got.get("tenfold-behind") == "true"
        self._all.behind += self._was_behind
        return msgspec.json.decode(raw)


class _Wire:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: Any
    ) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = b"" if body is None else msgspec.json.encode(body)
        lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None:
            lines += ["content-type: application/json", f"content-length: {len(data)}"]
        writer.write("\r\n".join([*lines, "\r\n"]).encode("latin-1") + data)
        reply = _Reply()
        parser = httptools.HttpResponseParser(reply)
        while not reply.complete:
            read = await reader.read(65_536)
            if not read:
                raise EOFError("the connection ended before a whole answer had come")
            parser.feed_data(read)
        if not parser.should_keep_alive():
            self.close()
        return parser.get_status_code(), reply.headers, bytes(reply.body)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class _Reply:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True
