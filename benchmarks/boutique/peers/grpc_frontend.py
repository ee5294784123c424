"""The frontend before the services on grpcio: FastAPI's routes, which return msgspec's JSON."""

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import grpc
import msgspec
from fastapi import FastAPI, HTTPException, Query, Response

from benchmarks.boutique.payments.contract import Card
from benchmarks.boutique.peers.grpc_serving import built
from benchmarks.boutique.peers.models import Code, NewItem, NewOrder, ProductId, UserId
from benchmarks.boutique.shipping.contract import Address

__all__ = ["app"]

_encode = msgspec.json.Encoder().encode
pages: Any = None
carts: Any = None
checkout: Any = None
Currency = Annotated[Code, Query()]
Customer = Annotated[UserId, Query()]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the channels for as long as it runs."""
    global pages, carts, checkout
    async with AsyncExitStack() as stack:
        pages, carts, checkout = await built("frontend", stack, "carts", "checkout")
        yield


app = FastAPI(lifespan=lifespan)


async def _answer(asked: Awaitable[Any]) -> Response:
    try:
        return Response(_encode(await asked), media_type="application/json")
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
            raise
        said = json.loads(error.details() or "{}")
        raise HTTPException(said["status"], said["detail"]) from error


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Whether it serves."""
    return {}


@app.get("/v1/home")
async def home(user_id: Customer, currency: Currency) -> Response:
    """The front page."""
    return await _answer(pages.home(user_id, currency))


@app.get("/v1/products/{product_id}")
async def product_page(product_id: ProductId, user_id: Customer, currency: Currency) -> Response:
    """The page of a product."""
    return await _answer(pages.product_page(product_id, user_id, currency))


@app.get("/v1/carts/{user_id}")
async def cart_page(user_id: UserId, currency: Currency) -> Response:
    """The page of a cart."""
    return await _answer(pages.cart_page(user_id, currency))


@app.post("/v1/carts/{user_id}/items")
async def add_item(user_id: UserId, item: NewItem) -> Response:
    """Hand on what is put into a cart."""
    return await _answer(carts.add_item(user_id, item.product_id, item.quantity))


@app.post("/v1/orders")
async def buy(new: NewOrder) -> Response:
    """Hand on an order."""
    address = Address(**new.address.model_dump())
    card = Card(**new.card.model_dump())
    return await _answer(checkout.place_order(new.user_id, new.currency, address, new.email, card))
