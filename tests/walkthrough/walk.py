"""One order through the real store, one piece of work at a time, and what was seen on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from tenfold.contracts.envelope import OPERATOR, Envelope
from tenfold.edges.http.app import http_app
from tenfold.edges.http.asgi import ASGIApp
from tenfold.edges.http.settings import HttpProduct, ReadinessState
from tenfold.path.entry import Entry, Incoming, Reply
from tenfold.path.module import StoredEnvelope
from tenfold.ports.records import (
    Claim,
    Cycle,
    Delivery,
    EventRecord,
    InboxKey,
    QueueEntry,
    ReplyKey,
    Turn,
)
from tenfold.ports.unit import Message, Unit, UnitResult
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import load_product
from tenfold.testing.clock import HeldClock
from tests.walkthrough.rows import Change, Tables, changes, read_tables

__all__ = ["Call", "CountingIds", "Handled", "Put", "Seen", "Taken", "Walk", "Work", "walk"]

ROOT = Path(__file__).parents[2]
STORE = ROOT / "examples" / "store"
CUSTOMER = "17850"
_FIRST_UUID = UUID("01aa0000-0000-7000-8000-000000000000").int
_decode = msgspec.msgpack.Decoder(StoredEnvelope).decode


class CountingIds:
    """The port `Ids`, counting: every identifier is the next number."""

    def __init__(self) -> None:
        self._next: dict[int, int] = {}

    def uuid(self) -> UUID:
        """A UUID of version 7 whose end is the next number."""
        return UUID(int=_FIRST_UUID + self._count(0))

    def hex(self, bits: int) -> str:
        """The next number of this length."""
        return f"{self._count(bits):0{bits // 4}x}"

    def uniform(self) -> float:
        """The middle."""
        return 0.5

    def _count(self, of: int) -> int:
        self._next[of] = self._next.get(of, 0) + 1
        return self._next[of]


@dataclass
class Call:
    """edge and admit: a request, what the edge made of it, how admit decided, and the answer."""

    request: str
    incoming: Incoming | None = None
    timeout_s: float = 0.0
    admitted: str = ""
    answer: str = ""


@dataclass
class Handled:
    """handle or projection: a handler that begins, and its envelope."""

    envelope: Envelope
    module: str
    projection: str | None


@dataclass
class Work:
    """unit of work and outbox: what was committed together."""

    module: str
    target: str
    rows: list[Change]
    inbox: InboxKey | None
    reply_key: ReplyKey | None
    events: list[tuple[EventRecord, StoredEnvelope]]
    jobs: list[tuple[QueueEntry, StoredEnvelope]]


@dataclass
class Put:
    """relay: events that were put into a module's queue."""

    module: str
    delivery: Delivery


@dataclass
class Taken:
    """queue: an entry that a worker took."""

    module: str
    claim: Claim


Seen = Call | Handled | Work | Put | Taken


@dataclass
class Walk:
    """What was seen, in order, and what can be asked for afterwards: request and answer."""

    seen: list[Seen] = field(default_factory=list)
    afterwards: list[Call] = field(default_factory=list)


class _Recorder:
    """The witness of the host, and the entry that the edge calls."""

    def __init__(self, data_dir: Path) -> None:
        self.seen: list[Seen] = []
        self.claims = 0
        self._data_dir = data_dir
        self._tables: dict[str, Tables] = {}
        self.entry: Entry

    def handling(self, message: Message) -> None:
        """Note a handler that begins."""
        self.seen.append(Handled(message.envelope, message.module, message.projection))

    def committed(self, message: Message, unit: Unit, result: UnitResult) -> None:
        """Note what a unit of work left in its module's file."""
        before = self._tables.get(message.module, {})
        after = read_tables(self._data_dir / f"{message.module}.db")
        self._tables[message.module] = after
        self.seen.append(
            Work(
                module=message.module,
                target=message.envelope.target,
                rows=changes(before, after),
                inbox=unit.inbox,
                reply_key=unit.reply_key,
                events=[(event, _decode(event.body)) for event in unit.events],
                jobs=[(entry, _decode(entry.body)) for entry in unit.entries],
            )
        )

    def relayed(self, module: str, deliveries: Delivery) -> None:
        """Note entries that came into a queue."""
        self.seen.append(Put(module, deliveries))

    def claimed(self, module: str, claim: Claim) -> None:
        """Note entries that a worker took."""
        self.claims += 1
        self.seen.append(Taken(module, claim))

    async def call(self, incoming: Incoming) -> Reply:
        """Note what the edge made of a request. Implements `Entry`."""
        call = next(seen for seen in reversed(self.seen) if isinstance(seen, Call))
        call.incoming = incoming
        call.timeout_s = incoming.operation.declaration.timeout_s
        return await self.entry.call(incoming)


class _OneByOne:
    """Lets the workers take one entry at a time, in the order of modules.

    Relays and workers run as ever, but a worker whose turn it is not finds
    nothing due: so it does not depend on threads which of two goes first.
    """

    def __init__(self, host: Host, recorder: _Recorder) -> None:
        self._host = host
        self._recorder = recorder
        self._turn: str | None = None
        for name, module in host.modules.items():
            queue: Any = module.queue
            queue.next_due = partial(self._next_due, name, queue.next_due)
            queue.cycle = partial(self._cycle, name, queue.cycle)

    async def next(self) -> bool:
        """Let one entry be worked, and everything that follows come to rest; False if none is."""
        for name in self._host.modules:
            await self._host.idle()
            before, self._turn = self._recorder.claims, name
            self._host.worker(name).wake()
            await self._host.idle()
            self._turn = None
            if self._recorder.claims > before:
                return True
        return False

    async def _cycle(self, name: str, cycle_of: Callable[[Cycle], Any], cycle: Cycle) -> Turn:
        want = 1 if self._turn == name and cycle.want else 0
        cycle = msgspec.structs.replace(cycle, want=want)
        if not (cycle.finished or cycle.renew or want):
            return Turn(claim=None, lost=[])
        turn: Turn = await cycle_of(cycle)
        if turn.claim is not None:
            self._turn = None
        return turn

    async def _next_due(self, name: str, next_due: Callable[[], Any]) -> datetime | None:
        due: datetime | None = await next_due() if self._turn == name else None
        return due


async def walk(data_dir: Path) -> Walk:
    """Place one order in a store of one product, and follow it to its end."""
    recorder = _Recorder(data_dir)
    clock, ids = HeldClock(), CountingIds()
    product = load_product(STORE, overrides={"data": str(data_dir)}, environ={})
    host = Host(product, data_dir=data_dir, clock=clock, ids=ids, witness=recorder)
    await host.start()
    try:
        async with asyncio.timeout(60):
            recorder.entry = host.entry
            return await _walk(host, recorder, _edge(host, recorder, clock, ids))
    finally:
        await host.stop()


async def _walk(host: Host, recorder: _Recorder, app: ASGIApp) -> Walk:
    steps = _OneByOne(host, recorder)

    async def send(method: str, target: str, body: Any = None, **headers: str) -> Any:
        call = Call(_request(method, target, body, headers))
        recorder.seen.append(call)
        call.answer, made = await _send(app, method, target, body, headers)
        if call.incoming is not None:
            label = _operation_of(host, call.incoming)
            (call.admitted,) = {
                count.outcome for count in host.stops.admit.snapshot() if count.label == label
            }
        return made

    price = {"amount": "2.55", "currency": "GBP"}
    lamp = await send("POST", "/v1/products", {"sku": "LAMP", "name": "Oak lamp", "price": price})
    await send("POST", f"/v1/products/{lamp['id']}/stock", {"quantity": 10})
    while await steps.next():
        pass
    recorder.seen.clear()

    order = {"customer_id": CUSTOMER, "lines": [{"product_id": lamp["id"], "quantity": 2}]}
    placed = await send("POST", "/v1/orders", order, **{"idempotency-key": "k1"})
    found = Walk()
    more = True
    while more:
        await host.idle()
        # Relays of several modules deliver at once, and beside the answer to the caller.
        names = list(host.modules)
        puts = [seen for seen in recorder.seen if isinstance(seen, Put)]
        found.seen += [seen for seen in recorder.seen if not isinstance(seen, Put)]
        puts.sort(key=lambda put: names.index(put.module))
        found.seen += puts
        recorder.seen.clear()
        more = await steps.next()

    for target in (
        f"/v1/orders/{placed['id']}",
        f"/v1/products/{lamp['id']}/stock",
        f"/v1/mail?customer_id={CUSTOMER}",
        f"/v1/customers/{CUSTOMER}/orders",
        "/v1/insights/best-sellers",
        "/v1/insights/daily-sales",
    ):
        recorder.seen.clear()
        await send("GET", target)
        found.afterwards += [seen for seen in recorder.seen if isinstance(seen, Call)]
    return found


async def _no_metrics() -> bytes:
    return b""


def _edge(host: Host, entry: Entry, clock: HeldClock, ids: CountingIds) -> ASGIApp:
    return http_app(
        entry,
        HttpProduct(
            name=host.product.name,
            version="1",
            operations=host.operations,
            principal_of=lambda _: OPERATOR,
            readiness=lambda: ReadinessState.READY,
            metrics=_no_metrics,
            clock=clock,
            ids=ids,
        ),
    )


def _operation_of(host: Host, incoming: Incoming) -> str:
    return next(name for name, spec in host.operations.items() if spec is incoming.operation)


def _request(method: str, target: str, body: Any, headers: dict[str, str]) -> str:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    if body is not None:
        lines += ["content-type: application/json", "", msgspec.json.encode(body).decode()]
    return "\n".join(lines)


async def _send(
    app: ASGIApp, method: str, target: str, body: Any, headers: dict[str, str]
) -> tuple[str, Any]:
    path, _, query = target.partition("?")
    raw = b"" if body is None else msgspec.json.encode(body)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    if raw:
        pairs.append((b"content-type", b"application/json"))
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": pairs,
        "root_path": "",
    }
    await app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    # Positions carry the epoch of a log, which is drawn anew with each file.
    told = [
        f"{name.decode()}: {value.decode()}"
        for name, value in sent[0]["headers"]
        if name in (b"location", b"content-type", b"tenfold-trace-id")
    ]
    text = "\n".join([f"HTTP/1.1 {sent[0]['status']}", *told, "", answer.decode()])
    return text, msgspec.json.decode(answer)
