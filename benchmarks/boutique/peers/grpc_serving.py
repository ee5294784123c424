"""The boutique on grpcio's asyncio: the modules' own handlers, each in a process of its own.

python -m benchmarks.boutique.peers.grpc_serving SERVICE

What a Tenfold module asks of another it asks here of a stub; what travels is MessagePack by
msgspec, which costs less than Protobuf. The frontend is `frontend` below, an HTTP application.
BENCH_PLACES says at which port each service is; with BENCH_URL catalogue, carts and orders
are in PostgreSQL by asyncpg.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import AsyncExitStack
from typing import Any, get_type_hints
from uuid import UUID, uuid4

import grpc
import msgspec
import uvloop

from benchmarks.boutique.ads.module import AdsModule
from benchmarks.boutique.carts.module import CartsModule
from benchmarks.boutique.cartstore.contract import CartStore, Item
from benchmarks.boutique.cartstore.module import CartStoreModule
from benchmarks.boutique.catalog.contract import Catalog, Product, ProductNotFound
from benchmarks.boutique.catalog.module import CatalogModule
from benchmarks.boutique.checkout.contract import Order
from benchmarks.boutique.checkout.module import CheckoutModule
from benchmarks.boutique.currency.contract import Amount
from benchmarks.boutique.currency.module import CurrenciesModule
from benchmarks.boutique.emails.module import EmailsModule
from benchmarks.boutique.frontend.module import FrontendModule
from benchmarks.boutique.payments.contract import Card
from benchmarks.boutique.payments.module import PaymentsModule
from benchmarks.boutique.peers.sql import Tables
from benchmarks.boutique.recommendations.module import RecommendationsModule
from benchmarks.boutique.shipping.contract import Address
from benchmarks.boutique.shipping.module import ShippingModule
from tenfold import Refusal
from tenfold.contracts.contract import OperationSpec, read_contract
from tenfold.runtimes.reflection import contract_of, is_contract

__all__ = ["HANDLERS", "Stub", "built", "main"]

STORED = bool(os.environ.get("BENCH_URL"))
_encode = msgspec.msgpack.Encoder().encode


class StoredCatalog(Catalog):
    """The catalogue on a table."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def list_products(self) -> list[Product]:
        """All of them."""
        return [_product(row) for row in await self._tables.products()]

    async def get_product(self, product_id: str) -> Product:
        """One of them."""
        row = await self._tables.product(product_id)
        if row is None:
            raise ProductNotFound(product_id=product_id)
        return _product(row)


class StoredCarts(CartStore):
    """Carts on a table."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def read(self, user_id: str) -> list[Item]:
        """What is in a cart."""
        return [Item(product_id=p, quantity=q) for p, q in await self._tables.read(user_id)]

    async def add(self, user_id: str, product_id: str, quantity: int) -> None:
        """Put more in."""
        await self._tables.add(user_id, product_id, quantity)

    async def clear(self, user_id: str) -> None:
        """Take everything out."""
        await self._tables.clear(user_id)


class Buying(CheckoutModule):
    """The checkout without Tenfold around it, which would give its orders their ids."""

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables

    async def place_order(
        self, user_id: str, currency: str, address: Address, email: str, card: Card
    ) -> Order:
        """Buy what is in a cart."""
        order = await super().place_order(user_id, currency, address, email, card)
        if self._tables is not None:
            plain = msgspec.to_builtins(order.lines)
            await self._tables.add_order(user_id, email, order, plain)
        return order

    def _new_id(self) -> UUID:
        return uuid4()


def _product(row: Any) -> Product:
    price = Amount(currency=row["currency"], units=row["units"], nanos=row["nanos"])
    return Product(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        picture=row["picture"],
        price=price,
        categories=row["categories"],
    )


HANDLERS: dict[str, Any] = {
    "frontend": FrontendModule,
    "catalog": StoredCatalog if STORED else CatalogModule,
    "currency": CurrenciesModule,
    "carts": CartsModule,
    "cartstore": StoredCarts if STORED else CartStoreModule,
    "recommendations": RecommendationsModule,
    "shipping": ShippingModule,
    "checkout": Buying,
    "payments": PaymentsModule,
    "email": EmailsModule,
    "ads": AdsModule,
}
_ON_TABLES = (StoredCatalog, StoredCarts, Buying)
_SERVICES = {contract_of(kind): name for name, kind in HANDLERS.items()}


class Stub:
    """Has a contract's operations, and asks the service that hosts them."""

    def __init__(self, channel: grpc.aio.Channel, contract: type) -> None:
        for name, spec in read_contract(contract).operations.items():
            setattr(self, name, _asking(channel, spec))


def _asking(channel: grpc.aio.Channel, spec: OperationSpec) -> Any:
    call = channel.unary_unary(
        f"/{spec.contract}/{spec.name}",
        request_serializer=_encode,
        response_deserializer=_decoder(tuple[spec.result]),
    )
    names = spec.parameters

    async def ask(*args: Any) -> Any:
        (answer,) = await call(spec.arguments(**dict(zip(names, args, strict=True))))
        return answer

    return ask


def _decoder(kind: Any) -> Any:
    return msgspec.msgpack.Decoder(kind).decode


def _serving(handler: Any, spec: OperationSpec) -> grpc.RpcMethodHandler:
    method = getattr(handler, spec.name)

    async def serve(arguments: msgspec.Struct, context: Any) -> Any:
        try:
            # In a tuple, since grpcio takes no text for a message.
            return (await method(*msgspec.structs.astuple(arguments)),)
        except Refusal as refusal:
            details = json.dumps({"status": refusal.status, "detail": type(refusal).__name__})
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, details)
        except grpc.aio.AioRpcError as error:  # what another service refused
            await context.abort(error.code(), error.details())

    return grpc.unary_unary_rpc_method_handler(
        serve,
        request_deserializer=_decoder(spec.arguments),
        response_serializer=_encode,
    )


async def built(name: str, stack: AsyncExitStack, *also: str) -> tuple[Any, ...]:
    """A service's handler with stubs for what it asks, and stubs of other services beside it."""
    places = json.loads(os.environ["BENCH_PLACES"])
    kind = HANDLERS[name]
    arguments = []
    if STORED and kind in _ON_TABLES:
        tables = Tables()
        await stack.enter_async_context(tables.open())
        arguments.append(tables)
    handler = kind(*arguments)

    async def stub(contract: type) -> Stub:
        place = f"127.0.0.1:{places[_SERVICES[contract]]}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(place))
        return Stub(channel, contract)

    for attribute, hint in get_type_hints(kind).items():
        if is_contract(hint):
            setattr(handler, attribute, await stub(hint))
    return (handler, *[await stub(contract_of(HANDLERS[each])) for each in also])


async def _serve(name: str) -> None:
    async with AsyncExitStack() as stack:
        (handler,) = await built(name, stack)
        contract = contract_of(HANDLERS[name])
        operations = read_contract(contract).operations
        methods = {n: _serving(handler, spec) for n, spec in operations.items()}
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(contract.__name__, methods),)
        )
        place = json.loads(os.environ["BENCH_PLACES"])[name]
        server.add_insecure_port(f"127.0.0.1:{place}")
        await server.start()
        await server.wait_for_termination()


def main() -> None:
    """Serve one service until it is ended."""
    uvloop.run(_serve(sys.argv[1]))


if __name__ == "__main__":
    main()
