"""What the HTTP edge itself refuses, before any operation is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tenfold.contracts.errors import Outcome, TenfoldError
from tenfold.edges.http.asgi import Headers

__all__ = [
    "BodyTooLargeError",
    "CrossOriginError",
    "EdgeFaultError",
    "HeadersTooLargeError",
    "HttpError",
    "MethodNotAllowedError",
    "MisdirectedError",
    "NotAcceptableError",
    "RouteNotFoundError",
    "SlowRequestError",
    "TargetTooLongError",
    "UnreadableRequestError",
    "UnsupportedMediaTypeError",
]


class HttpError(TenfoldError):
    """The request cannot be served as it was sent; no operation was called."""

    code = "http.error"
    status: ClassVar[int] = 400

    def headers(self) -> Headers:
        """The headers that the answer must have."""
        return []


class UnreadableRequestError(HttpError):
    """The request could not be read. Its syntax is wrong, before any value is looked at."""

    code = "http.unreadable"

    def __init__(self, message: str, *, field: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.detail = detail or message


class CrossOriginError(HttpError):
    """A web page of another origin tried to change something here."""

    code = "http.cross_origin"
    status = 403


class RouteNotFoundError(HttpError):
    """Nothing is served at this path."""

    code = "http.not_found"
    status = 404


class MethodNotAllowedError(HttpError):
    """The path is served, but not for this method."""

    code = "http.method_not_allowed"
    status = 405

    def __init__(self, method: str, path: str, allowed: Sequence[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"{path} is not served for {method}. It is for: {self.allowed}.")

    def headers(self) -> Headers:
        """The methods that are served, as RFC 9110 asks of a 405."""
        return [(b"allow", self.allowed.encode("ascii"))]


class NotAcceptableError(HttpError):
    """The caller accepts no form in which this can be answered."""

    code = "http.not_acceptable"
    status = 406


class SlowRequestError(HttpError):
    """The body of the request took longer to arrive than the edge waits."""

    code = "http.too_slow"
    status = 408

    def headers(self) -> Headers:
        """The connection is of no further use."""
        return [(b"connection", b"close")]


class BodyTooLargeError(HttpError):
    """The body of the request has more bytes than the edge takes."""

    code = "http.body_too_large"
    status = 413

    def headers(self) -> Headers:
        """The rest of the body will not be read."""
        return [(b"connection", b"close")]


class TargetTooLongError(HttpError):
    """The path and query string are longer than the edge takes."""

    code = "http.target_too_long"
    status = 414


class UnsupportedMediaTypeError(HttpError):
    """The body of the request is in a form that the edge does not read."""

    code = "http.unsupported_media_type"
    status = 415

    def headers(self) -> Headers:
        """The forms that are read (RFC 9110, section 15.5.16)."""
        return [(b"accept", b"application/json, application/msgpack")]


class MisdirectedError(HttpError):
    """The request was meant for a host that this product is not."""

    code = "http.misdirected"
    status = 421


class HeadersTooLargeError(HttpError):
    """The headers of the request are too many or too long."""

    code = "http.headers_too_large"
    status = 431

    def headers(self) -> Headers:
        """The connection is of no further use."""
        return [(b"connection", b"close")]


class EdgeFaultError(HttpError):
    """The request failed for a reason that the product did not foresee."""

    code = "http.fault"
    status = 500
    outcome = Outcome.MAYBE_DONE
