"""The site's map: which address is which page, and what is shown when something goes wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from store.web import browsing, buying, files, following
from store.web.guard import Guard
from store.web.shop import NotUnderstoodError, Shop, page
from tenfold import Refusal, TenfoldError

__all__ = ["make_pages"]

_Page = Callable[[Shop, Request], Awaitable[Response]]


def make_pages(shop: Shop) -> ASGIApp:
    """Make the application that serves all pages of a shop."""

    def get(path: str, show: _Page) -> Route:
        async def endpoint(request: Request) -> Response:
            return await show(shop, request)

        return Route(path, endpoint, methods=["GET"], name=show.__name__)

    def post(path: str, act: _Page) -> Route:
        async def endpoint(request: Request) -> Response:
            if not request.scope["state"]["from_this_site"]:
                raise NotUnderstoodError(
                    "This came from a page of another site, so nothing was done. "
                    "Please go on from here.",
                    status=403,
                )
            return await act(shop, request)

        return Route(path, endpoint, methods=["POST"], name=act.__name__)

    site = Starlette(
        routes=[
            get("/", browsing.home),
            get("/products/{product_id:uuid}", browsing.product),
            get("/basket", buying.basket),
            post("/basket", buying.change_basket),
            post("/basket/add", buying.add_to_basket),
            post("/checkout", buying.check_out),
            get("/orders", following.orders),
            get("/orders/{order_id:uuid}", following.order),
            get("/orders/{order_id:uuid}/live", following.live),
            get("/mail", following.mail),
            Route("/art/{art}.svg", files.picture),
            Route("/static/{version}/{name}", files.static),
        ],
        exception_handlers={
            HTTPException: _no_such_page,
            NotUnderstoodError: _not_understood,
            Refusal: _refused,
            TenfoldError: _failed,
            Exception: _failed,
        },
    )
    # Outside of everything, so that the page of a fault has the headers too.
    return Guard(site)


async def _no_such_page(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    if status == HTTPStatus.NOT_FOUND:
        title, text = "Nothing here", "This page does not exist, or is not here any more."
    else:
        title, text = HTTPStatus(status).phrase, "This cannot be done with this page."
    response = page(request, "error.html", status=status, title=title, text=text)
    if isinstance(error, HTTPException) and error.headers:
        response.headers.update(error.headers)
    return response


async def _not_understood(request: Request, error: Exception) -> Response:
    assert isinstance(error, NotUnderstoodError)
    title = "Not from here" if error.status == HTTPStatus.FORBIDDEN else "That did not work"
    return page(request, "error.html", status=error.status, title=title, text=error.text)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    title = "Nothing here" if error.status == HTTPStatus.NOT_FOUND else "That did not work"
    return page(request, "error.html", status=error.status, title=title, text=error.sentence())


async def _failed(request: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, TenfoldError) else ""
    if code == "call.invalid_arguments":
        text = "This address cannot be read. It may have been cut off when it was copied."
        return page(request, "error.html", status=400, title="That did not work", text=text)
    if code == "admit.key_reused":
        text = (
            "This basket was ordered already, with other contents or another customer number. "
            "Your first order stands; look it up under Orders."
        )
        return page(request, "error.html", status=422, title="Ordered already", text=text)
    busy = code in ("admit.overloaded", "admit.deadline_exceeded", "store.unavailable")
    response = page(
        request,
        "error.html",
        status=503 if busy else 500,
        title="Just a moment" if busy else "Our fault",
        text="The shop is busy. Please try again in a moment."
        if busy
        else "Something went wrong in the shop. Nothing is lost; please try again.",
    )
    if busy:
        response.headers["Retry-After"] = "2"
    return response
