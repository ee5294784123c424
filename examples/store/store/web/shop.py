"""What every page works with: the contracts, the templates, and how answers are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, urlencode

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from store.catalog.contract import Catalog
from store.insights.contract import Insights
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import CustomerId, Orders
from store.web.art import art_name
from store.web.basket import Basket
from store.web.files import versions
from tenfold import Money

__all__ = ["NotUnderstoodError", "Shop", "basket_of", "go_to", "keep", "page", "read_form"]

LONGEST_FORM_BYTES = 64 * 1024
MOST_FIELDS = 200
_KEEP_S = 30 * 24 * 3600
_SYMBOLS = {"GBP": "£", "EUR": "€", "USD": "$", "JPY": "¥"}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Shop:
    """The modules that the pages speak to."""

    catalog: Catalog
    orders: Orders
    inventory: Inventory
    notifications: Notifications
    insights: Insights


class NotUnderstoodError(Exception):
    """A visitor's input cannot be used. `status` is the HTTP status, `text` is shown to them."""

    def __init__(self, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def page(
    request: Request, template: str, *, status: int = 200, title: str, **values: Any
) -> Response:
    """Render a page in the frame that all pages share. It is private and never stored."""
    html = (
        _templates()
        .get_template(template)
        .render(
            title=title,
            basket_pieces=values.pop("basket", basket_of(request)).pieces,
            customer=customer_of(request),
            search=values.pop("search", ""),
            link=_Links(request),
            **values,
        )
    )
    return HTMLResponse(html, status_code=status, headers={"Cache-Control": "no-store"})


def fragment(request: Request, template: str, **values: Any) -> str:
    """Render a part of a page."""
    return _templates().get_template(template).render(link=_Links(request), **values)


def go_to(request: Request, path: str, **query: str) -> RedirectResponse:
    """Answer a POST with the page to GET next (303), so that a reload repeats nothing."""
    return RedirectResponse(_Links(request)(path, **query), status_code=303)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form; of several with one name, the last."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise NotUnderstoodError("This page takes forms only.", status=415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM_BYTES:
            raise NotUnderstoodError("The form is too long to be one of ours.", status=413)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise NotUnderstoodError("The form could not be read. Please try it again.") from error
    return dict(pairs)


def read_as(value: str, kind: type[_T] | Any, text: str, *, status: int = 422) -> Any:
    """Read a visitor's text as a type of the contracts; `text` tells them what is asked for."""
    try:
        return msgspec.convert(value.strip(), kind, strict=False)
    except msgspec.ValidationError as error:
        raise NotUnderstoodError(text, status=status) from error


def basket_of(request: Request) -> Basket:
    """The visitor's basket."""
    return Basket.read(request.cookies.get("basket", ""))


def customer_of(request: Request) -> str:
    """The customer number that the visitor used last, or nothing."""
    try:
        return str(msgspec.convert(request.cookies.get("customer", ""), CustomerId))
    except msgspec.ValidationError:
        return ""


def keep(request: Request, response: Response, name: str, value: str) -> Response:
    """Set a cookie that scripts cannot read and other sites' forms do not send; or end it."""
    path = request.scope.get("root_path", "") or "/"
    response.set_cookie(
        name,
        value,
        max_age=_KEEP_S if value else 0,
        path=path,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


class _Links:
    """Writes addresses within the site, wherever it is mounted."""

    def __init__(self, request: Request) -> None:
        self._root = str(request.scope.get("root_path", "")).rstrip("/")

    def __call__(self, path: str, **query: object) -> str:
        given = {name: value for name, value in query.items() if value not in ("", None)}
        return f"{self._root}{path}" + (f"?{urlencode(given)}" if given else "")

    def static(self, name: str) -> str:
        """A static file's address, which changes when the file does."""
        return self(f"/static/{versions()[name]}/{name}")

    def art(self, sku: str, name: str) -> str:
        """A product's picture."""
        return self(f"/art/{art_name(sku, name)}.svg")


def money(value: Money) -> str:
    """An amount as a shop writes it: £1,234.50; by its code where it has no sign of its own."""
    sign = _SYMBOLS.get(value.currency)
    return f"{sign}{value.amount:,}" if sign else f"{value.amount:,} {value.currency}"


def moment(value: datetime) -> str:
    """A moment as people read it, in UTC."""
    value = value.astimezone(UTC)
    return f"{value.day} {value:%B %Y, %H:%M} UTC"


def pieces(count: int, one: str = "piece", many: str = "pieces") -> str:
    """A number with its noun."""
    return f"{count:,} {one if count == 1 else many}"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    # Jinja leaves the type of its filters open.
    filters = cast("dict[str, Callable[..., str]]", environment.filters)  # pyright: ignore[reportUnknownMemberType]
    filters.update(money=money, moment=moment, pieces=pieces)
    return environment
