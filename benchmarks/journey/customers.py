"""Customers of a store, in a process of their own, who know one address and go on whatever happens.

python -m benchmarks.journey.customers < a line of JSON (record.Wishes); they end with their input

An open load: requests begin at their times, by chance as customers do, whether
or not others were answered, and count from when they were due. Each customer has
one request on its way at a time and sends back the newest `Tenfold-Position`. Who
is turned away comes again, with the same key, and every time is noted.
`benchmarks.loading` sends what it was given and knows no customer; so this is its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import IO, Any
from urllib.parse import quote
from uuid import UUID

import msgspec
import uvloop

from benchmarks.journey.record import Asked, ShelfProduct, Try, Wishes

__all__ = ["main"]

PATIENCE_S = 30.0
"""For which a request is sent again; one that is not answered by then is given up."""
AGAIN_S = 0.3
"""Before it is sent again, where the answer does not say `Retry-After`."""
_RESTED_S = 10.0
"""A connection that has rested for longer is not used again: the other end closes it soon."""
_CUSTOMERS = 60
_DECLINED = 0.04
_KINDS = ("page", "product", "search", "order", "history")
_SHARES = (0.3, 0.3, 0.1, 0.2, 0.1)
"""Of what customers look at, how much is which."""
_FIXED = ("customer_id", "lines", "total", "placed_at")


class _LostError(Exception):
    """The connection ended before a whole answer had come."""


@dataclass
class _Answer:
    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class _Customer:
    name: str
    position: str = ""
    orders: list[Any] = field(default_factory=list)


class _Lines:
    """Kept connections to one port; each has one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._rest: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self, message: bytes) -> _Answer:
        """Send a request and read the whole answer. Raises: _LostError."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                reader, writer = await self._line()
                try:
                    writer.write(message)
                    answer, kept = await _read(reader)
                except BaseException:
                    writer.close()
                    raise
        except (OSError, EOFError, TimeoutError) as error:
            raise _LostError(type(error).__name__) from error
        if kept:
            self._rest.append((asyncio.get_running_loop().time(), reader, writer))
        else:
            writer.close()
        return answer

    async def _line(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._rest:
            since_s, reader, writer = self._rest.pop()
            fresh = asyncio.get_running_loop().time() - since_s < _RESTED_S
            if fresh and not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


async def _read(reader: asyncio.StreamReader) -> tuple[_Answer, bool]:
    """An answer, and whether the connection can be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *rest = head.rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in rest)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length")
    raw = await (reader.read() if length is None else reader.readexactly(int(length)))
    is_json = "json" in headers.get("content-type", "")
    answer = _Answer(int(first.split()[1]), headers, msgspec.json.decode(raw) if is_json else None)
    return answer, length is not None and headers.get("connection", "").lower() != "close"


class _Customers:
    def __init__(self, wishes: Wishes, journal: IO[bytes]) -> None:
        self._wishes = wishes
        self._journal = journal
        self._random = Random(wishes.seed)
        self._lines = _Lines(wishes.port)
        self._names = (f"walker-{number}" for number in range(1_000_000))
        self._free = deque(_Customer(next(self._names)) for _ in range(_CUSTOMERS))
        self._visits: set[asyncio.Task[None]] = set()

    async def come(self, over: asyncio.Event) -> None:
        """Send requests at their times until it is over, then wait for what is on its way."""
        loop = asyncio.get_running_loop()
        for due_s, kind in self._arrivals(loop.time()):
            wait_s = due_s - loop.time()
            if wait_s > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), wait_s)
            if over.is_set():
                break
            visit = loop.create_task(self._visit(kind, due_s))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)
        await asyncio.gather(*self._visits)

    def _arrivals(self, began_s: float) -> Iterator[tuple[float, str]]:
        per_s = self._wishes.reads_per_s + self._wishes.orders_per_s
        due_s = began_s
        while True:
            due_s += self._random.expovariate(per_s)
            places = self._random.random() < self._wishes.orders_per_s / per_s
            yield due_s, "place" if places else self._random.choices(_KINDS, _SHARES)[0]

    async def _visit(self, kind: str, due_s: float) -> None:
        customer = self._someone(kind)
        asked = Asked(kind if customer.orders or kind != "order" else "product", due_s, [])
        try:
            await self._ask(customer, asked)
        finally:
            self._free.append(customer)
            self._journal.write(msgspec.json.encode(asked) + b"\n")

    def _someone(self, kind: str) -> _Customer:
        """Whoever has nothing on its way; for an order's page somebody who has ordered."""
        for at, customer in enumerate(self._free):
            if customer.orders or kind != "order":
                del self._free[at]
                return customer
        return self._free.popleft() if self._free else _Customer(next(self._names))

    async def _ask(self, customer: _Customer, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        product = self._random.choice(self._wishes.shelf.products)
        order = self._random.choice(customer.orders) if asked.kind == "order" else None
        message = self._message(customer, asked, product, order)
        wanted = 201 if asked.kind == "place" else 200
        while True:
            began_s = loop.time()
            wait_s, final = AGAIN_S, False
            try:
                answer = await self._lines.exchange(message)
            except _LostError as error:
                asked.tries.append(Try(began_s, loop.time(), f"no answer ({error})"))
            else:
                bad = "" if answer.status == wanted else _told(answer)
                asked.tries.append(Try(began_s, loop.time(), bad))
                if not bad:
                    customer.position = answer.headers.get("tenfold-position", customer.position)
                    self._look_at(customer, asked, product, order, answer)
                    return
                wait_s = float(answer.headers.get("retry-after", AGAIN_S))
                final = answer.status < 500 and answer.status != 429
            if final or loop.time() - asked.due_s > PATIENCE_S:
                return
            await asyncio.sleep(wait_s)

    def _message(
        self, customer: _Customer, asked: Asked, product: ShelfProduct, order: Any
    ) -> bytes:
        path = {
            "page": f"/v1/products?limit=20{self._cursor()}",
            "product": f"/v1/products/{product.id}",
            "search": f"/v1/products?search={quote(product.word)}",
            "history": f"/v1/customers/{customer.name}/orders",
            "order": f"/v1/orders/{order['id'] if order else ''}",
            "place": "/v1/orders",
        }[asked.kind]
        head = "POST" if asked.kind == "place" else "GET"
        head += f" {path} HTTP/1.1\r\nhost: 127.0.0.1:{self._wishes.port}\r\naccept: */*\r\n"
        if customer.position:
            head += f"tenfold-position: {customer.position}\r\n"
        if asked.kind != "place":
            return f"{head}\r\n".encode()
        asked.key = str(UUID(int=self._random.getrandbits(128), version=4))
        body = msgspec.json.encode(self._basket(customer))
        head += f"idempotency-key: {asked.key}\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def _cursor(self) -> str:
        cursor = self._random.choice(["", *self._wishes.shelf.cursors])
        return f"&cursor={quote(cursor)}" if cursor else ""

    def _basket(self, customer: _Customer) -> dict[str, Any]:
        chosen = self._random.sample(self._wishes.shelf.products, self._random.randint(1, 3))
        lines = [{"product_id": p.id, "quantity": self._random.randint(1, 3)} for p in chosen]
        declined = self._random.random() < _DECLINED
        return {"customer_id": "declined" if declined else customer.name, "lines": lines}

    def _look_at(
        self, customer: _Customer, asked: Asked, product: ShelfProduct, order: Any, answer: _Answer
    ) -> None:
        """Note what the answer says that cannot be true, and what was promised."""
        body = answer.body
        asked.behind = answer.headers.get("tenfold-behind") == "true"
        if asked.kind == "place":
            asked.told = body
            if body["customer_id"] == customer.name:
                customer.orders.append(body)
        elif asked.kind == "product" and (body["id"], body["sku"]) != (product.id, product.sku):
            asked.wrong = f"product {product.id} was answered as {body['id']} {body['sku']}"
        elif asked.kind in ("page", "search") and not body["items"]:
            asked.wrong = f"there is nothing on a page of the catalogue ({product.word})"
        elif asked.kind == "order":
            changed = [name for name in _FIXED if body[name] != order[name]]
            if changed:
                asked.wrong = f"order {order['id']} was told with other {', '.join(changed)}"
        elif asked.kind == "history" and customer.orders and not asked.behind:
            newest = customer.orders[-1]["id"]
            if newest not in [each["id"] for each in body["items"]]:
                asked.wrong = f"{customer.name} ordered {newest} and it is not in his history"


def _told(answer: _Answer) -> str:
    """Why an answer is not the one wanted; what is no problem of the product's, a balancer says."""
    if not isinstance(answer.body, dict):
        return f"{answer.status} of the balancer"
    return f"{answer.status} {answer.body.get('code')} {answer.body.get('outcome')}"


async def _main() -> None:
    loop = asyncio.get_running_loop()
    wishes = msgspec.json.decode(sys.stdin.buffer.readline(), type=Wishes)
    over = asyncio.Event()
    ended = loop.run_in_executor(None, sys.stdin.buffer.read)
    ended.add_done_callback(lambda _: over.set())
    with open(wishes.journal, "wb") as journal:
        await _Customers(wishes, journal).come(over)


def main() -> None:
    """Send what is asked for until the input ends; the journal is whole when this returns."""
    uvloop.run(_main())


if __name__ == "__main__":
    main()
