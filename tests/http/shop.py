"""A small contract and an entry that carries it, for the tests of the HTTP edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

import msgspec

from tenfold.contracts.contract import Contract, OperationSpec, read_contract
from tenfold.contracts.cursors import Cursor, Limit
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import NotPermittedError
from tenfold.contracts.operations import Kind, command, query
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.scalars import Instant, Money, Page
from tenfold.contracts.structs import Event, Struct
from tenfold.edges.http.app import http_app
from tenfold.edges.http.asgi import ASGIApp
from tenfold.edges.http.settings import HttpProduct, HttpSettings, ReadinessState
from tenfold.path.entry import Incoming, Reply
from tenfold.path.kept import Shown

PRODUCT = UUID("01890000-0000-7000-8000-000000000001")
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


class Product(Struct):
    """Something that can be bought."""

    id: UUID
    sku: str
    name: str
    price: Money
    created_at: Instant


class Line(Struct):
    """One line of an order."""

    product_id: UUID
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Order(Struct):
    id: UUID
    lines: list[Line]
    status: str = "placed"


class SkuTaken(Refusal, status=409):
    """A product with this SKU exists."""

    sku: str


class ProductNotFound(Refusal, status=404):
    """There is no such product."""

    product_id: UUID


class Confirmed(Event, key="order_id"):
    order_id: UUID


class Shop(Contract, Protocol):
    """What the shop sells."""

    @command("POST /v1/products", who="operator", raises=[SkuTaken], created="get_product")
    async def add_product(self, sku: Name, name: Name, price: Money) -> Product:
        """Add a product.

        Its name is trimmed.
        """
        ...

    @query("GET /v1/products/{product_id}", who="anyone", cache_s=60, raises=[ProductNotFound])
    async def get_product(self, product_id: UUID) -> Product:
        """One product."""
        ...

    @query("GET /v1/products", who="anyone")
    async def list_products(
        self,
        search: str | None = None,
        tags: list[str] = [],  # noqa: B006
        since: date | None = None,
        limit: Limit = 20,
        cursor: Cursor | None = None,
    ) -> Page[Product]:
        """Products, by name."""
        ...

    @query(
        "GET /v1/prices/{sku}",
        who="anyone",
        cache_s=60,
        tags=["price:{sku}"],
        cache_for="everyone",
        stale_if_error_s=300,
    )
    async def price(self, sku: Name) -> int:
        """A price, the same for everyone."""
        ...

    @query("GET /v1/secrets", who="operator", cache_s=60, cache_for="everyone")
    async def secret(self) -> int:
        """What only operators see, the same for all of them."""
        ...

    @query("GET /v1/products/newest", who="anyone")
    async def newest_product(self) -> Product:
        """The newest product."""
        ...

    @command("POST /v1/products/{product_id}/stock", who="operator", raises=[ProductNotFound])
    async def receive_stock(self, product_id: UUID, quantity: int) -> None:
        """Receive stock."""
        ...

    @command("POST /v1/products/{product_id}/hide", who="operator")
    async def hide(self, product_id: UUID) -> None:
        """Hide a product."""
        ...

    @command("DELETE /v1/products/{product_id}", who="operator")
    async def remove(self, product_id: UUID, force: bool = False) -> None:
        """Remove a product."""
        ...

    @command("POST /v1/orders", who="anyone", key="required", settled_by=[Confirmed])
    async def place_order(self, lines: list[Line]) -> Order:
        """Place an order."""
        ...

    @command("PUT /v1/notes", who="anyone")
    async def keep(self, note: Any) -> None:
        """Keep anything."""
        ...

    @query("GET /v1/sales", who="anyone")
    async def sales(self, from_: date | None = None, to: date | None = None) -> list[Line]:
        """What was sold."""
        ...

    @command("POST /v1/moves", who="anyone")
    async def move(self, from_: str, to: str) -> None:
        """Move something."""
        ...

    @command(who="internal")
    async def recount(self) -> None:
        """Count again."""
        ...


TEA = Product(
    id=PRODUCT,
    sku="tea",
    name="Tea",
    price=Money.from_minor(255, "GBP"),
    created_at=datetime(2026, 11, 20, tzinfo=UTC),
)


class ShopEntry:
    """Answers like a product would, and remembers what it was asked.

    `fail` is raised by the next call; `block` holds it until it is set.
    """

    def __init__(self) -> None:
        self.calls: list[Incoming] = []
        self.fail: BaseException | None = None
        self.kept: Shown | None = None
        self.block: asyncio.Event | None = None
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def call(self, incoming: Incoming) -> Reply:
        """Answer one call."""
        self.calls.append(incoming)
        self.began.set()
        if self.block is not None:
            try:
                await self.block.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.fail is not None:
            raise self.fail
        spec = incoming.operation
        who = spec.declaration.who
        if who != "anyone" and not incoming.principal.may(who):
            raise NotPermittedError(f"{spec.name} needs the permission {who!r}.")
        assert incoming.trace is not None
        return Reply(
            value=self._value(spec, incoming),
            trace=incoming.trace,
            position=incoming.position if spec.kind is Kind.QUERY else "shop:1:7",
            kept=self.kept,
            replayed=incoming.idempotency_key == "again-again",
            settled=incoming.wait_s is not None,
        )

    def _value(self, spec: OperationSpec, incoming: Incoming) -> Any:
        arguments: Any = incoming.arguments
        match spec.name:
            case "get_product":
                if arguments.product_id != PRODUCT:
                    raise ProductNotFound(product_id=arguments.product_id)
                return TEA
            case "price" | "secret":
                return 255
            case "newest_product":
                return TEA
            case "list_products":
                return Page(items=[TEA], next=None)
            case "sales":
                return []
            case "add_product":
                if arguments.sku == "taken":
                    raise SkuTaken(sku="taken")
                return TEA
            case "place_order":
                return Order(id=PRODUCT, lines=arguments.lines)
            case _:
                return None


async def _no_metrics() -> bytes:
    return b"# none\n"


def make_product(
    settings: HttpSettings | None = None,
    *,
    mounts: dict[str, ASGIApp] | None = None,
    principal_of: Callable[[Any], Any] = lambda _: OPERATOR,
    readiness: ReadinessState = ReadinessState.READY,
) -> HttpProduct:
    """The shop, as the edge is given it."""
    spec = read_contract(Shop)
    return HttpProduct(
        name="shop",
        version="1.2.3",
        operations={f"shop.{name}": operation for name, operation in spec.operations.items()},
        principal_of=principal_of,
        readiness=lambda: readiness,
        metrics=_no_metrics,
        settings=settings or HttpSettings(),
        mounts=mounts or {},
    )


class Response:
    """What the application answered."""

    def __init__(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode("latin-1") for name, value in headers}
        self.body = body

    def json(self) -> Any:
        """The body, read as JSON."""
        return msgspec.json.decode(self.body)


class Caller:
    """Drives an ASGI application directly."""

    def __init__(
        self, settings: HttpSettings | None = None, *, entry: ShopEntry | None = None, **given: Any
    ) -> None:
        self.entry = entry or ShopEntry()
        self.product = make_product(settings, **given)
        self.app = http_app(self.entry, self.product)

    async def send(
        self,
        method: str,
        target: str,
        body: bytes | list[bytes] | Any = None,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        **scope: Any,
    ) -> Response:
        """Send one request; a body that is not bytes goes as JSON."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        if body is not None and not isinstance(body, bytes | list):
            body = msgspec.json.encode(body)
            pairs.append(("content-type", "application/json"))
        parts = body if isinstance(body, list) else [body or b""]
        waiting = [
            {"type": "http.request", "body": part, "more_body": at < len(parts) - 1}
            for at, part in enumerate(parts)
        ]
        sent: list[Any] = []

        async def receive() -> Any:
            if waiting:
                return waiting.pop(0)
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        path, _, query_string = target.partition("?")
        from urllib.parse import unquote

        await self.app(
            {
                "type": "http",
                "method": method,
                "path": unquote(path, errors="replace"),
                "raw_path": path.encode("ascii"),
                "query_string": query_string.encode("ascii"),
                "headers": [(n.lower().encode(), v.encode("latin-1")) for n, v in pairs],
                "root_path": "",
                **scope,
            },
            receive,
            send,
        )
        whole = b"".join(message.get("body", b"") for message in sent[1:])
        return Response(sent[0]["status"], sent[0]["headers"], whole)
