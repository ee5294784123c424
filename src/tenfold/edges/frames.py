"""The edge for frames: calls from other processes, over one connection many at once.

What a call says of its principal is believed, because its caller is known: a Unix socket
that only its owner may open stands for that, and over TCP a certificate of the product's
authority that names one who may call.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.errors import (
    InvalidArgumentsError,
    Outcome,
    OverloadedError,
    TenfoldError,
    UnknownOperationError,
)
from tenfold.contracts.refusals import Refusal
from tenfold.path.arguments import describe_invalid
from tenfold.path.entry import Entry, Incoming
from tenfold.ports.frames import (
    VERSION,
    Answered,
    Call,
    Cancel,
    CircuitOpenError,
    Failed,
    Frame,
    FrameError,
    Hello,
    Leaving,
    Refused,
    Wire,
    raw,
)

__all__ = ["FrameServer", "bind_socket"]

MOST_CALLS: Final = 1_000
"""In progress on one connection; one more is refused as overloaded."""
_HELLO_TIMEOUT_S = 5.0
_log = logging.getLogger("tenfold.frames")


class FrameServer:
    """Takes calls from connections and hands them to the path.

    Args:
        product: its name, for the greeting.
        operations: by full name, `module.operation`.
        process: the name of this one, for the greeting.
        most: calls in progress on one connection.
    """

    def __init__(
        self,
        product: str,
        entry: Entry,
        operations: Mapping[str, OperationSpec],
        *,
        process: str = "",
        most: int = MOST_CALLS,
    ) -> None:
        self.entry = entry
        self.most = most
        self.operations = {
            target: (spec, msgspec.msgpack.Decoder(spec.arguments).decode)
            for target, spec in operations.items()
        }
        contracts = {spec.contract: name.rpartition(".")[0] for name, spec in operations.items()}
        taken = {name: spec.arguments.__struct_fields__ for name, spec in operations.items()}
        self.hello = Hello(VERSION, product, contracts, process, secrets.token_hex(8), taken)
        self._server: asyncio.Server | None = None
        self.connections: set[_Connection] = set()
        self.stopping = False
        """Whether no more connections are taken, those among them whose handshake goes on."""
        self._changed = asyncio.Event()
        self.callers: Collection[str] | None = None
        """Names of which a caller's certificate must have one; None where it needs none."""

    async def start(self, path: Path) -> None:
        """Listen at a path that nobody else listens at; what is left there of a dead process goes.

        Raises: OSError where the path cannot be bound.
        """
        await self.listen(bind_socket(path))

    async def listen_tls(
        self, listener: socket.socket, tls: ssl.SSLContext, callers: Collection[str]
    ) -> None:
        """Listen at a TCP socket that is bound; other processes may listen at it too.

        Whoever connects must show a certificate, since to reach the socket is no identity there.

        Args:
            tls: shows our certificate, and asks for one that the product's authority has signed.
            callers: names of which it must have one.
        """
        assert tls.verify_mode is ssl.CERT_REQUIRED, "anybody would be believed"
        self.callers = callers
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self),
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=_HELLO_TIMEOUT_S,
        )

    async def listen(self, listener: socket.socket) -> None:
        """Listen at a Unix socket that is bound; other processes may listen at it too."""
        # From Python 3.13 on a server takes the path away when it closes: others listen there.
        options: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Connection(self), sock=listener, **options
        )

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Take no more connections, answer what is in progress within a bound, close.

        Callers are told to go elsewhere, and calls that were on their way are answered:
        they close when they have all their answers.
        """
        self.stopping = True
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in list(self.connections):
            connection.leave()
        try:
            async with asyncio.timeout(drain_s):
                while self.connections:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            calls = sum(len(connection.calls) for connection in self.connections)
            if calls:
                _log.error("%d calls did not end in time and are interrupted.", calls)
        left = list(self.connections)
        await asyncio.gather(*(connection.end() for connection in left))
        await asyncio.gather(*(connection.ended.wait() for connection in left))

    def gone(self, connection: _Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        self._changed.set()


class _Connection(Wire):
    def __init__(self, server: FrameServer) -> None:
        super().__init__()
        self._server = server
        self._greeted = False
        self._timer: asyncio.TimerHandle | None = None
        self.calls: dict[int, asyncio.Task[None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._server.stopping:  # its TLS handshake took until now; another process takes it
            assert self.transport is not None
            self.transport.abort()
            return
        self._server.connections.add(self)
        self._timer = self._loop.call_later(_HELLO_TIMEOUT_S, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()
        for task in list(self.calls.values()):
            task.cancel()  # nobody waits for it any more
        self._server.gone(self)

    def pause_writing(self) -> None:
        # Who does not read what it is sent is not read from either.
        if self.transport is not None:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.transport is not None and not self.closing:
            self.transport.resume_reading()

    def came(self, frame: Frame) -> None:
        if isinstance(frame, Call) and self._greeted:
            self._begin(frame)
        elif isinstance(frame, Cancel) and self._greeted:
            task = self.calls.get(frame.number)
            if task is not None:
                task.cancel()
        elif isinstance(frame, Hello) and not self._greeted:
            if frame.version != VERSION:
                raise FrameError(
                    f"This process speaks version {VERSION} of the frames and was asked for "
                    f"{frame.version}. Nothing was done. Use the Tenfold that runs the product."
                )
            self._check_caller()
            self._greeted = True
            self._stop_timer()
            self.send(self._server.hello)
        else:
            raise FrameError(
                f"A {type(frame).__name__} came out of turn. The connection is closed."
            )

    def _check_caller(self) -> None:
        """Raises: FrameError where its certificate names nobody who may call."""
        callers = self._server.callers
        if callers is None or self.transport is None:
            return
        shown = self.transport.get_extra_info("peercert") or {}
        names = [name for kind, name in shown.get("subjectAltName", ()) if kind == "DNS"]
        if not set(names).intersection(callers):
            raise FrameError(
                f"The caller's certificate names {', '.join(names) or 'nobody'}, and these may "
                f"call: {', '.join(sorted(callers))}. Nothing was done. Give it a certificate "
                "whose DNS names have its own, `gateway` for a gateway."
            )

    def failed(self, error: FrameError) -> None:
        self.send(_failed(0, error))

    def leave(self) -> None:
        """Tell the caller to go elsewhere; it closes when it has its answers."""
        if self._greeted and not self.closing:
            self.send(Leaving())
        elif not self.calls:
            self.close()

    async def end(self) -> None:
        """Interrupt what is in progress, and close."""
        tasks = list(self.calls.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.close()

    def _begin(self, call: Call) -> None:
        number = call.number
        if number in self.calls or number < 1:
            raise FrameError(f"The number {number} is in use by another call, or is none.")
        if len(self.calls) >= self._server.most:
            error = OverloadedError(
                f"{len(self.calls):,} calls are in progress on this connection, and this one was "
                "not begun. Send it again when one of them has ended."
            )
            self.send(_failed(number, error))
            return
        task = self.calls[number] = self._loop.create_task(self._carry(call))
        task.add_done_callback(partial(self._done, number))

    def _done(self, number: int, task: asyncio.Task[None]) -> None:
        """Forget a call whose task was cancelled before its first step, and had no last one."""
        if self.calls.get(number) is task:
            del self.calls[number]

    async def _carry(self, call: Call) -> None:
        number = call.number
        try:
            reply = await self._server.entry.call(_incoming(call, self._server.operations))
            answer: Frame = Answered(
                number,
                raw(reply.value),
                reply.position,
                reply.replayed,
                reply.settled,
                reply.behind,
                None if reply.kept is None else bytes(raw(reply.kept)),
            )
        except Refusal as refusal:
            answer = Refused(number, refusal.code, raw(refusal.payload()))
        except Exception as error:
            answer = _failed(number, error)
        finally:
            self.calls.pop(number, None)  # the number is free before its answer is sent
        if self.closing:
            return
        try:
            self.send(answer)
        except FrameError as error:
            # The work is done: only its answer is too large to travel.
            error.outcome = Outcome.DONE
            self.send(_failed(number, error))

    def _too_late(self) -> None:
        self._unreadable(
            FrameError(f"No greeting came within {_HELLO_TIMEOUT_S:g} s. The connection is closed.")
        )

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def bind_socket(path: Path) -> socket.socket:
    """A Unix socket at a path that only the owner may open; a dead process's is replaced.

    Raises: OSError.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must hold from the first moment on, so it comes from the mask, not from chmod.
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.setblocking(False)
    return listener


def _incoming(
    call: Call, operations: Mapping[str, tuple[OperationSpec, Callable[[Any], Any]]]
) -> Incoming:
    found = operations.get(call.target)
    if found is None:
        raise UnknownOperationError(
            f"This process has no operation {call.target!r}. Nothing was done. Is it older than "
            "the one that calls?"
        )
    spec, decode = found
    try:
        arguments = decode(call.arguments)
    except msgspec.ValidationError as error:
        raise describe_invalid(call.target, error) from None
    return Incoming(
        operation=spec,
        arguments=arguments,
        principal=call.principal,
        tenant=call.tenant,
        internal=not call.outside,
        trace=None if call.trace is None else TraceContext.parse(call.trace),
        idempotency_key=call.key,
        timeout_s=call.timeout_s,
        position=call.position,
        wait_s=call.wait_s,
        counted=call.outside,
        decision=call.decision,
        queued=call.queued,
    )


def _failed(number: int, error: Exception) -> Failed:
    if isinstance(error, TenfoldError):
        place = error if isinstance(error, InvalidArgumentsError) else None
        return Failed(
            number=number,
            code=error.code,
            outcome=error.outcome,
            message=str(error),
            field="" if place is None else place.field,
            detail="" if place is None else place.detail,
            retry_after_s=error.retry_after_s
            if isinstance(error, OverloadedError | CircuitOpenError)
            else None,
        )
    _log.error("A call failed with an unexpected %s.", type(error).__name__, exc_info=error)
    return Failed(
        number=number,
        code="handle.fault",
        outcome=Outcome.MAYBE_DONE,
        message=f"The call failed with an unexpected {type(error).__name__}. See the log.",
    )
