"""One operation as it is served over HTTP: from a request to an answer."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping, Sequence

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import Kind
from tenfold.edges.http.arguments import ArgumentReader
from tenfold.edges.http.errors import UnreadableRequestError
from tenfold.edges.http.exchange import (
    Answer,
    ClientGoneError,
    Exchange,
    idempotency_key,
    wait_of,
)
from tenfold.edges.http.forms import form_of_content, negotiate
from tenfold.edges.http.limits import Addresses, limit_headers
from tenfold.edges.http.problems import RESERVED
from tenfold.edges.http.replies import ReplyWriter
from tenfold.edges.http.seen import position_cookie, position_of
from tenfold.edges.http.settings import HttpProduct
from tenfold.edges.http.waiting import DisconnectWatch, Watches, guarded
from tenfold.path.entry import Entry, Incoming

__all__ = ["Endpoint", "has_body", "reply_writer"]


def has_body(spec: OperationSpec) -> bool:
    """Whether the arguments of an operation come in a body, and not in the query string."""
    return spec.declaration.method in ("POST", "PUT", "PATCH")


class Endpoint:
    """One operation, compiled: what it does not use costs its requests nothing."""

    __slots__ = (
        "_addresses",
        "_entry",
        "_has_limits",
        "_is_command",
        "_key_required",
        "_product",
        "_reader",
        "_spec",
        "_takes_body",
        "_watches",
        "_writer",
        "label",
    )

    def __init__(self, name: str, spec: OperationSpec, product: HttpProduct, entry: Entry) -> None:
        self.label = name
        self._spec = spec
        self._product = product
        self._entry = entry
        self._is_command = spec.kind is Kind.COMMAND
        self._key_required = self._is_command and spec.declaration.key == "required"
        self._takes_body = has_body(spec)
        self._has_limits = product.door is not None and name in product.door.limited
        settings = product.settings
        self._addresses = Addresses(settings.trusted_proxies, settings.forwarded_header)
        self._reader = ArgumentReader(spec, product.settings.max_depth)
        self._watches = Watches(settings.disconnect_check_s)
        self._writer = reply_writer(name, spec, product.operations)

    async def answer(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        """Answer one request.

        Args:
            values: of the path's parameters, in order.
        Raises: HttpError, TenfoldError, Refusal; ClientGoneError where nobody waits any more.
        """
        product, headers, scope = self._product, exchange.headers, exchange.scope
        form = negotiate(headers.get(b"accept"))
        principal = product.principal_of(scope)
        address = None
        if self._has_limits:
            address = self._addresses.of(scope, headers)
        arrived = exchange.arrival is not None
        door = product.door
        if door is not None and (
            refused := door.look(self.label, principal, product.tenant, address, arrived=arrived)
        ):
            raise refused
        query: bytes = scope["query_string"]
        if self._takes_body:
            if query:
                _refuse_query(query)
            arguments = await self._from_body(exchange, values)
        else:
            arguments = self._reader.of_query(values, query)
        key, wait_s = None, None
        if self._is_command:
            key = idempotency_key(headers)
            if key is None and self._key_required:
                raise _key_missing()
            wait_s = wait_of(headers, product.settings.max_wait_s)
        cookies = product.settings.position_cookies
        position = position_of(headers, cookies=cookies)
        incoming = Incoming(
            operation=self._spec,
            arguments=arguments,
            principal=principal,
            tenant=product.tenant,
            trace=exchange.trace,
            idempotency_key=key,
            position=position,
            wait_s=wait_s,
            address=address,
            arrival=exchange.arrival,
        )
        watch = DisconnectWatch(exchange.receive, self._watches)
        try:
            call = self._entry.call(incoming)
            reply = await guarded(call, watch)
        except CancelledError:
            if not watch.gone:
                raise
            raise ClientGoneError from None
        answer = self._writer.write(reply, arguments, headers, form, wait_s)
        if cookies and not answer.is_public and reply.position not in (None, position):
            answer.headers.append(position_cookie(reply.position))
        if reply.allowances:
            answer.headers += limit_headers(reply.allowances)
        return answer

    async def _from_body(self, exchange: Exchange, values: Sequence[str]) -> msgspec.Struct:
        content_type = exchange.headers.get(b"content-type")
        form = form_of_content(content_type) if content_type is not None else None
        body = await exchange.body(self._product.settings)
        if not body and not self._reader.body_required:
            return self._reader.without_body(values)
        if form is None and body:
            form = form_of_content(None)
        if form is None or not body:
            raise UnreadableRequestError(
                f"The body is empty. Send an object with {', '.join(self._reader.body_fields)}.",
                field="body",
                detail="is required and empty",
            )
        return self._reader.of_body(values, body, form)


def _key_missing() -> UnreadableRequestError:
    return UnreadableRequestError(
        "This command needs an Idempotency-Key header, so that it can be sent again safely. Send "
        "a new UUID for each new piece of work.",
        field="Idempotency-Key",
        detail="is required and missing",
    )


def _refuse_query(query: bytes) -> None:
    name = query.partition(b"=")[0][:100].decode("latin-1")
    raise UnreadableRequestError(
        f"The arguments of this operation travel in the body, and the query string has {name!r}. "
        "Send it in the body.",
        field=name,
        detail="was sent in the query string, and belongs in the body",
    )


def reply_writer(
    name: str, spec: OperationSpec, operations: Mapping[str, OperationSpec]
) -> ReplyWriter:
    """What writes the replies of the operation `name`, one of `operations`.

    Raises: ContractError where what it returns or refuses with cannot be told over HTTP.
    """
    _check_refusals(spec)
    return ReplyWriter(spec, _created(name, spec, operations))


def _created(
    name: str, spec: OperationSpec, operations: Mapping[str, OperationSpec]
) -> OperationSpec | None:
    wanted = spec.declaration.created
    if wanted is None:
        return None
    query = operations.get(f"{name.rpartition('.')[0]}.{wanted}")
    return query if query is not None and query.declaration.path is not None else None


def _check_refusals(spec: OperationSpec) -> None:
    for refusal in spec.declaration.raises:
        taken = sorted(RESERVED.intersection(refusal.fields))
        if taken:
            raise ContractError(
                f"{refusal.__name__} has the field {taken[0]!r}, which every problem has already "
                f"(RFC 9457). Give it another name. Taken are: {', '.join(sorted(RESERVED))}."
            )
        if not 400 <= refusal.status <= 499:
            raise ContractError(
                f"{refusal.__name__} has status={refusal.status}. A refusal is the caller's to "
                "mend: 400 to 499."
            )
