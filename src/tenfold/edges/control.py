"""The control socket: calls from other processes of the same user, such as the command line.

A Unix socket that only its owner may open stands for the identity of the
caller, so its calls count as internal ones.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from pathlib import Path

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
from tenfold.ports.control import (
    MAX_FRAME_BYTES,
    PREFIX,
    VERSION,
    Answered,
    Call,
    Cancel,
    ControlProtocolError,
    Failed,
    Frame,
    Hello,
    Refused,
    pack,
)

__all__ = ["ControlServer"]

_MAX_CALLS = 1_000
_HELLO_TIMEOUT_S = 5.0
_log = logging.getLogger("tenfold.control")
_decode = msgspec.msgpack.Decoder(Hello | Call | Cancel).decode
_encode = msgspec.msgpack.Encoder().encode


class ControlServer:
    """Listens on a Unix socket and hands calls to the path.

    Args:
        operations: by full name, `module.operation`.
        max_calls: calls in progress on one connection; one more is refused as overloaded.
    """

    def __init__(
        self,
        product: str,
        entry: Entry,
        operations: Mapping[str, OperationSpec],
        *,
        max_calls: int = _MAX_CALLS,
    ) -> None:
        self._entry = entry
        self._operations = operations
        self._max_calls = max_calls
        contracts = {spec.contract: name.rpartition(".")[0] for name, spec in operations.items()}
        self._hello = pack(Hello(version=VERSION, product=product, contracts=contracts))
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()

    async def start(self, path: Path) -> None:
        """Listen at a path that nobody else listens at; what is left there of a dead process goes.

        Raises: OSError where the path cannot be bound.
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
        self._server = await asyncio.start_unix_server(self._connected, sock=listener)

    async def stop(self, *, drain_s: float = 5.0) -> None:
        """Take no more calls, let those in progress end within a bound, close."""
        if self._server is None:
            return
        self._server.close()
        tasks = [task for connection in self._connections for task in connection.calls.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
        for connection in list(self._connections):
            connection.close()
        pending = [c.done.wait() for c in self._connections]
        if pending:
            await asyncio.wait_for(asyncio.gather(*pending), timeout=drain_s)
        self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(reader, writer, self._max_calls)
        self._connections.add(connection)
        try:
            await connection.serve(self._hello, self._entry, self._operations)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller went, or we close: what it waited for was cancelled in serve()
        finally:
            connection.close()
            self._connections.discard(connection)
            connection.done.set()


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_calls: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_calls = max_calls
        self.calls: dict[int, asyncio.Task[None]] = {}
        self.done = asyncio.Event()

    def close(self) -> None:
        self._writer.close()

    async def serve(
        self, hello: bytes, entry: Entry, operations: Mapping[str, OperationSpec]
    ) -> None:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                first = await self._read()
            if not isinstance(first, Hello) or first.version != VERSION:
                raise ControlProtocolError(
                    f"This process speaks version {VERSION} of the control socket and was asked "
                    f"for another. Nothing was done. Use the Tenfold that runs the product."
                )
            self._writer.write(hello)
            while True:
                frame = await self._read()
                if isinstance(frame, Call):
                    self._begin(frame, entry, operations)
                elif isinstance(frame, Cancel):
                    task = self.calls.get(frame.number)
                    if task is not None:
                        task.cancel()
                else:
                    raise ControlProtocolError("A second greeting came. The connection is closed.")
        except (ControlProtocolError, TimeoutError) as error:
            await self._send(_failed(0, error))
        finally:
            for task in list(self.calls.values()):
                task.cancel()
            if self.calls:
                await asyncio.gather(*self.calls.values(), return_exceptions=True)

    async def _read(self) -> Frame:
        prefix = await self._reader.readexactly(PREFIX.size)
        (size,) = PREFIX.unpack(prefix)
        if size > MAX_FRAME_BYTES:
            raise ControlProtocolError(
                f"A frame of {size:,} bytes was announced; {MAX_FRAME_BYTES:,} are the most. "
                "The connection is closed."
            )
        body = await self._reader.readexactly(size)
        try:
            frame: Frame = _decode(body)
            return frame
        except msgspec.DecodeError as error:
            raise ControlProtocolError(
                f"What came is no frame: {error}. The connection is closed."
            ) from error

    def _begin(self, call: Call, entry: Entry, operations: Mapping[str, OperationSpec]) -> None:
        if call.number in self.calls:
            raise ControlProtocolError(f"The number {call.number} is in use by another call.")
        full = len(self.calls) >= self._max_calls
        work = self._shed(call) if full else self._carry(call, entry, operations)
        task = asyncio.get_running_loop().create_task(work)
        self.calls[call.number] = task
        task.add_done_callback(lambda _: self.calls.pop(call.number, None))

    async def _shed(self, call: Call) -> None:
        error = OverloadedError(
            f"{self._max_calls} calls are in progress on this connection; nothing was begun."
        )
        await self._send(_failed(call.number, error))

    async def _carry(
        self, call: Call, entry: Entry, operations: Mapping[str, OperationSpec]
    ) -> None:
        try:
            reply = await entry.call(_incoming(call, operations))
            answer: Frame = Answered(
                number=call.number,
                value=msgspec.Raw(_encode(reply.value)),
                position=reply.position,
                replayed=reply.replayed,
            )
        except Refusal as refusal:
            answer = Refused(
                number=call.number,
                code=refusal.code,
                fields=msgspec.Raw(_encode(refusal.payload())),
            )
        except Exception as error:
            answer = _failed(call.number, error)
        await self._send(answer)

    async def _send(self, frame: Frame) -> None:
        try:
            data = pack(frame)
        except ControlProtocolError as error:
            # The work is done: only its answer is too large to travel.
            error.outcome = Outcome.DONE
            data = pack(_failed(getattr(frame, "number", 0), error))
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (ConnectionError, RuntimeError):
            pass  # the caller went; the reading side ends the connection


def _incoming(call: Call, operations: Mapping[str, OperationSpec]) -> Incoming:
    spec = operations.get(call.target)
    if spec is None:
        raise UnknownOperationError(
            f"This product has no operation {call.target!r}. Nothing was done. Is the process "
            "that runs older than the one that calls?"
        )
    try:
        arguments = msgspec.msgpack.decode(call.arguments, type=spec.arguments)
    except msgspec.ValidationError as error:
        raise describe_invalid(call.target, error) from None
    return Incoming(
        operation=spec,
        arguments=arguments,
        principal=call.principal,
        tenant=call.tenant,
        internal=True,
        trace=None if call.trace is None else TraceContext.parse(call.trace),
        idempotency_key=call.key,
        timeout_s=call.timeout_s,
    )


def _failed(number: int, error: Exception) -> Failed:
    if isinstance(error, InvalidArgumentsError):
        return Failed(
            number=number,
            code=error.code,
            outcome=error.outcome,
            message=str(error),
            field=error.field,
            detail=error.detail,
        )
    if isinstance(error, TenfoldError):
        return Failed(
            number=number,
            code=error.code,
            outcome=error.outcome,
            message=str(error),
            retry_after_s=error.retry_after_s if isinstance(error, OverloadedError) else None,
        )
    if isinstance(error, TimeoutError):
        return Failed(
            number=number,
            code=ControlProtocolError.code,
            outcome=Outcome.NOT_DONE,
            message=f"No greeting came within {_HELLO_TIMEOUT_S:g} s. The connection is closed.",
        )
    _log.error("A call failed with an unexpected %s.", type(error).__name__, exc_info=error)
    return Failed(
        number=number,
        code="handle.fault",
        outcome=Outcome.MAYBE_DONE,
        message=f"The call failed with an unexpected {type(error).__name__}. See the log.",
    )
