"""The caller's end of frames: one connection to a process."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tenfold.adapters.frames.answers import Answer, returned
from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import Outcome, UnknownOperationError
from tenfold.contracts.operations import Kind
from tenfold.ports.frames import (
    VERSION,
    Answered,
    Call,
    Cancel,
    Failed,
    Frame,
    FrameError,
    Hello,
    Leaving,
    PeerLostError,
    PeerUnavailableError,
    Refused,
    Wire,
    raw,
)
from tenfold.ports.peers import Outgoing, Returned

__all__ = ["FrameLink", "connect", "connect_tls"]

_CONNECT_S: Final = 5.0
_CONNECT_TLS_S: Final = 3.0


async def connect(path: Path, *, timeout_s: float = _CONNECT_S) -> FrameLink:
    """Connect to the process that listens at a Unix socket.

    Raises: PeerUnavailableError where nobody listens there (NOT_DONE);
        FrameError where another version is spoken.
    """
    try:
        async with asyncio.timeout(timeout_s):
            _, link = await asyncio.get_running_loop().create_unix_connection(FrameLink, str(path))
    except (OSError, TimeoutError) as error:
        raise PeerUnavailableError(
            f"Nobody answers on the socket {path}: {error}. Nothing was sent. Is the product just "
            "starting or stopping?"
        ) from error
    return await _greeted(link, str(path), timeout_s)


async def connect_tls(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext,
    service: str,
    timeout_s: float = _CONNECT_TLS_S,
) -> FrameLink:
    """Connect to a process of a service on this or another machine, and show who we are.

    Args:
        tls: shows our certificate, and believes whom the product's authority has named.
        service: the name that the other end's certificate must have.
    Raises: as `connect`; PeerUnavailableError where the certificate is another's.
    """
    place = f"{host}:{port}"
    try:
        async with asyncio.timeout(timeout_s):
            _, link = await asyncio.get_running_loop().create_connection(
                FrameLink, host, port, ssl=tls, server_hostname=service
            )
    except ssl.SSLError as error:
        raise PeerUnavailableError(
            f"Who answers at {place} does not show that it is the service {service!r}: {error}. "
            "Nothing was sent. Its certificate must name the service and be signed by the "
            "`authority` that the topology names under `tls`."
        ) from error
    except (OSError, TimeoutError) as error:
        raise PeerUnavailableError(
            f"Nobody answers at {place} for the service {service!r}: {error or 'no answer'}. "
            "Nothing was sent. Does it run there?"
        ) from error
    return await _greeted(link, place, timeout_s)


async def _greeted(link: FrameLink, place: str, timeout_s: float) -> FrameLink:
    """The connection, once both ends have said hello; else it is closed."""
    try:
        async with asyncio.timeout(timeout_s):
            await link.greet()
    except (PeerLostError, TimeoutError) as error:
        link.close()
        raise PeerUnavailableError(
            f"The process behind {place} did not answer the greeting. Nothing was sent. It may "
            "hang, or not believe our certificate: see its log, and `tenfold processes`."
        ) from error
    except FrameError as error:
        link.close()
        raise FrameError(f"The process behind {place} does not talk to us: {error}") from error
    except BaseException:
        link.close()
        raise
    return link


class FrameLink(Wire):
    """One connection, many calls at once. Implements `Peer`; belongs to its event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.hello = Hello(version=VERSION)
        """What the process has said of itself."""
        self._greeting: asyncio.Future[Hello] = self._loop.create_future()
        self._next = 1
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._new: dict[str, dict[str, Any]] = {}
        """By operation, arguments that only this end knows, with the values that say nothing."""
        self._decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {}
        """Of results, by the type's own number: making one takes time, and keeps the type."""
        self._reason = "The process closed the connection."
        self._writable = asyncio.Event()
        self._writable.set()
        self.leaving = False
        """Whether the process is about to end, so that new calls go elsewhere."""
        self.on_leaving: Callable[[FrameLink], None] | None = None
        self.retires_s = math.inf
        """When its service lets go of it, on the monotonic clock."""

    async def __aenter__(self) -> FrameLink:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.ended.wait()

    @property
    def outstanding(self) -> int:
        """Calls that have no answer yet."""
        return len(self._waiting)

    @property
    def usable(self) -> bool:
        """Whether new calls may go here."""
        return not self.leaving and not self.closing

    def retire(self) -> None:
        """Take no new calls, and close when every call has its answer."""
        self.leaving = True
        if not self._waiting:
            self.close()

    async def greet(self) -> None:
        """Say hello, and wait for the answer. Raises: FrameError, PeerLostError."""
        self.send(Hello(version=VERSION))
        self.hello = await self._greeting

    async def call(self, outgoing: Outgoing) -> Returned:
        """Carry one call to the process and wait for its answer. See `Peer.call`.

        Raises: the operation's refusals; what the process raised, with its code and outcome;
            PeerUnavailableError where it is gone (NOT_DONE); PeerLostError where it went
            meanwhile (MAYBE_DONE; a query NOT_DONE).
        """
        spec = outgoing.operation
        decoder = self._decoders.get(id(spec.result))
        if decoder is None:
            decoder = self._decoders[id(spec.result)] = msgspec.msgpack.Decoder(spec.result)
        return returned(spec, await self.ask(outgoing), decoder.decode)

    async def ask(self, outgoing: Outgoing) -> Answer:
        """Carry one call to the process; its answer as it came.

        Raises: PeerUnavailableError, PeerLostError: of this connection, and nobody's answer.
        """
        spec = outgoing.operation
        if not self._writable.is_set():
            await self._writable.wait()
        if self.closing:
            raise PeerUnavailableError(f"{self._reason} Nothing was sent.")
        number = self._next
        self._next = number + 1
        trace = outgoing.trace
        target = f"{outgoing.module or self._module(spec)}.{spec.name}"
        self.send(
            Call(
                number,
                target,
                self._arguments(outgoing, target),
                outgoing.principal,
                outgoing.tenant,
                outgoing.key,
                outgoing.timeout_s,
                None if trace is None else trace.traceparent,
                outgoing.position,
                outgoing.wait_s,
                outgoing.outside,
                outgoing.decision,
                outgoing.queued,
            )
        )
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting[number] = future
        try:
            answer = await future
        except asyncio.CancelledError:
            if not self.closing:
                self.send(Cancel(number))
            raise
        except PeerLostError as error:
            raise _lost(spec, str(error)) from error
        finally:
            self._waiting.pop(number, None)
            if self.leaving and not self._waiting:
                self.close()
        return answer

    def came(self, frame: Frame) -> None:
        """See `Wire.came`."""
        if isinstance(frame, Failed) and frame.number == 0:
            self._reason = frame.message
            if not self._greeting.done():
                self._greeting.set_exception(FrameError(frame.message))
        elif isinstance(frame, (Answered, Refused, Failed)):
            future = self._waiting.get(frame.number)
            if future is not None and not future.done():
                future.set_result(frame)
        elif isinstance(frame, Hello) and not self._greeting.done():
            self._greeting.set_result(frame)
        elif isinstance(frame, Leaving):
            self.leaving = True
            if self.on_leaving is not None:
                self.on_leaving(self)
            if not self._waiting:
                self.close()
        else:
            raise FrameError(f"A {type(frame).__name__} came out of turn.")

    def failed(self, error: FrameError) -> None:
        """See `Wire.failed`."""
        self._reason = str(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every caller that waits, and has no answer among what has come already."""
        self.take_rest()
        super().connection_lost(exc)
        self._writable.set()
        waiting: list[asyncio.Future[Any]] = [self._greeting, *self._waiting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(PeerLostError(self._reason))
                future.exception()  # whoever waits hears of it; nobody else need be told
        if self.on_leaving is not None:
            self.on_leaving(self)

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._writable.set()

    def _arguments(self, outgoing: Outgoing, target: str) -> msgspec.Raw:
        """The arguments, without those that an older process does not know and that say nothing:
        such as have the value that they have by default. With others it refuses the call."""
        new = self._new.get(target)
        if new is None:
            new = self._new[target] = self._new_arguments(outgoing.operation, target)
        arguments = outgoing.arguments
        if not new:
            return raw(arguments)
        said = {name: getattr(arguments, name) for name in arguments.__struct_fields__}
        return raw({n: v for n, v in said.items() if n not in new or v != new[n]})

    def _new_arguments(self, spec: OperationSpec, target: str) -> dict[str, Any]:
        """What of an operation the process does not know, with the value by default of each."""
        theirs = self.hello.operations.get(target)
        if theirs is None:
            return {}
        found: dict[str, Any] = {}
        for field in msgspec.structs.fields(spec.arguments):
            if field.name in theirs:
                continue
            if field.required:
                return {}
            made = field.default_factory
            found[field.name] = field.default if made is msgspec.NODEFAULT else made()
        return found

    def _module(self, spec: OperationSpec) -> str:
        module = self.hello.contracts.get(spec.contract)
        if module is None:
            raise UnknownOperationError(
                f"The process {self.hello.process!r} of {self.hello.product!r} has no module that "
                f"offers {spec.contract}. Nothing was sent. It offers: "
                f"{', '.join(sorted(self.hello.contracts))}."
            )
        return module


def _lost(spec: OperationSpec, reason: str) -> PeerLostError:
    target = f"{spec.contract}.{spec.name}"
    if spec.kind is Kind.QUERY:
        return PeerLostError(
            f"{reason} {target} was not answered; ask again.", outcome=Outcome.NOT_DONE
        )
    return PeerLostError(
        f"{reason} {target} may still have run. Look before it is sent again, or send it with an "
        "idempotency key."
    )
