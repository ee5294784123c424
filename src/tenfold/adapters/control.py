"""The caller's end of the control socket: operations of a product that runs in another process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import OPERATOR, Principal
from tenfold.contracts.errors import (
    InvalidArgumentsError,
    OverloadedError,
    TenfoldError,
    UnknownOperationError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.ports.control import (
    MAX_FRAME_BYTES,
    PREFIX,
    VERSION,
    Answered,
    Call,
    Cancel,
    ControlLostError,
    ControlProtocolError,
    ControlUnavailableError,
    Failed,
    Frame,
    Hello,
    Refused,
    pack,
)

__all__ = ["CallOptions", "ControlClient", "connect"]

_decode = msgspec.msgpack.Decoder(Hello | Answered | Refused | Failed).decode
_encode = msgspec.msgpack.Encoder().encode
_Answer = Answered | Refused | Failed


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What goes with one call. `timeout_s` shortens the operation's own limit."""

    principal: Principal = OPERATOR
    tenant: str = "main"
    key: str | None = None
    timeout_s: float | None = None


async def connect(path: Path, *, timeout_s: float = 5.0) -> ControlClient:
    """Connect to the control socket at a path.

    Raises: ControlUnavailableError where nobody listens there (NOT_DONE);
        ControlProtocolError where another version is spoken.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(str(path))
    except (OSError, TimeoutError) as error:
        raise ControlUnavailableError(
            f"Nobody answers on the control socket {path}: {error}. Nothing was sent. Is the "
            "product just starting or stopping?"
        ) from error
    try:
        writer.write(pack(Hello(version=VERSION)))
        async with asyncio.timeout(timeout_s):
            answer = await _read(reader)
    except (OSError, EOFError, TimeoutError) as error:
        writer.close()
        raise ControlUnavailableError(
            f"The process behind {path} did not answer the greeting. Nothing was sent."
        ) from error
    except BaseException:
        writer.close()
        raise
    if isinstance(answer, Hello):
        return ControlClient(reader, writer, answer)
    writer.close()
    text = answer.message if isinstance(answer, Failed) else "an unexpected frame"
    raise ControlProtocolError(f"The process behind {path} does not talk to us: {text}")


class ControlClient:
    """One connection, many calls at once. Belongs to the event loop that made it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello
    ) -> None:
        self.product = hello.product
        self.contracts = hello.contracts
        self._reader = reader
        self._writer = writer
        self._numbers: Iterator[int] = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[_Answer]] = {}
        self._lost: TenfoldError | None = None
        self._listener = asyncio.get_running_loop().create_task(self._listen())

    async def __aenter__(self) -> ControlClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection; the process cancels what is still in progress on it."""
        self._listener.cancel()
        await asyncio.gather(self._listener, return_exceptions=True)
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass  # the other end was faster

    async def call(
        self, spec: OperationSpec, arguments: msgspec.Struct, options: CallOptions
    ) -> Any:
        """Call one operation and wait for its answer.

        Returns: the operation's result, checked against its contract.
        Raises: the operation's refusals; what the process raised, with its code and outcome;
            ControlLostError where the process went (MAYBE_DONE; a query NOT_DONE).
        """
        number = next(self._numbers)
        frame = pack(
            Call(
                number=number,
                target=f"{self._module(spec)}.{spec.name}",
                arguments=msgspec.Raw(_encode(arguments)),
                principal=options.principal,
                tenant=options.tenant,
                key=options.key,
                timeout_s=options.timeout_s,
            )
        )
        if self._lost is not None:
            raise ControlUnavailableError(f"{self._lost} Nothing was sent.")
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._writer.write(frame)
            await self._writer.drain()
            answer = await future
        except asyncio.CancelledError:
            self._cancel(number)
            raise
        except (ConnectionError, ControlLostError) as error:
            raise _lost(spec, str(error)) from error
        finally:
            self._waiting.pop(number, None)
        return _result(spec, answer)

    def _module(self, spec: OperationSpec) -> str:
        module = self.contracts.get(spec.contract)
        if module is None:
            raise UnknownOperationError(
                f"The running product {self.product!r} has no module that offers {spec.contract}. "
                f"Nothing was sent. It offers: {', '.join(sorted(self.contracts))}."
            )
        return module

    def _cancel(self, number: int) -> None:
        if self._lost is None and not self._writer.is_closing():
            self._writer.write(pack(Cancel(number=number)))

    async def _listen(self) -> None:
        reason = "The process closed the connection."
        try:
            while True:
                frame = await _read(self._reader)
                if isinstance(frame, Failed) and frame.number == 0:
                    reason = frame.message
                    continue
                if isinstance(frame, (Answered, Refused, Failed)):
                    future = self._waiting.get(frame.number)
                    if future is not None and not future.done():
                        future.set_result(frame)
        except (OSError, EOFError):
            pass  # told to every caller that waits, below
        except ControlProtocolError as error:
            reason = str(error)
        finally:
            self._lost = ControlLostError(reason)
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ControlLostError(reason))


async def _read(reader: asyncio.StreamReader) -> Frame:
    (size,) = PREFIX.unpack(await reader.readexactly(PREFIX.size))
    if size > MAX_FRAME_BYTES:
        raise ControlProtocolError(
            f"An answer of {size:,} bytes was announced, which is too large."
        )
    body = await reader.readexactly(size)
    try:
        frame: Frame = _decode(body)
        return frame
    except msgspec.DecodeError as error:
        raise ControlProtocolError(f"What came back is no frame: {error}.") from error


def _result(spec: OperationSpec, answer: _Answer) -> Any:
    target = f"{spec.contract}.{spec.name}"
    try:
        if isinstance(answer, Answered):
            return msgspec.msgpack.decode(answer.value, type=spec.result)
        if isinstance(answer, Refused):
            raise _refusal(spec, answer)
    except msgspec.ValidationError as error:
        raise ControlProtocolError(
            f"The answer of {target} is not what its contract says: {error}. It was done. Is the "
            "process that runs of another version?"
        ) from error
    raise _error(answer)


def _refusal(spec: OperationSpec, refused: Refused) -> Exception:
    for kind in spec.declaration.raises:
        if kind.code == refused.code:
            fields = msgspec.msgpack.decode(refused.fields, type=kind.payload_type())
            refusal: Refusal = kind(**{name: getattr(fields, name) for name in kind.fields})
            return refusal
    return ControlProtocolError(
        f"{spec.contract}.{spec.name} was refused as {refused.code!r}, which the contract here "
        "does not declare. Is the process that runs of another version?"
    )


def _error(failed: Failed) -> TenfoldError:
    if failed.code == InvalidArgumentsError.code:
        return InvalidArgumentsError(failed.message, field=failed.field, detail=failed.detail)
    if failed.code == OverloadedError.code:
        return OverloadedError(failed.message, retry_after_s=failed.retry_after_s or 1.0)
    kind = _kinds(TenfoldError).get(failed.code, TenfoldError)
    error = kind.__new__(kind)
    TenfoldError.__init__(error, failed.message, outcome=failed.outcome)
    if error.code != failed.code:
        error.__dict__["code"] = failed.code
    return error


def _kinds(root: type[TenfoldError]) -> dict[str, type[TenfoldError]]:
    found = {root.code: root}
    for kind in root.__subclasses__():
        found |= _kinds(kind)
    return found


def _lost(spec: OperationSpec, reason: str) -> ControlLostError:
    target = f"{spec.contract}.{spec.name}"
    if spec.kind is Kind.QUERY:
        error = ControlLostError(f"{reason} {target} was not answered; ask again.")
        error.outcome = error.outcome.__class__.NOT_DONE
        return error
    return ControlLostError(
        f"{reason} {target} may still have run. Look before it is sent again, or send it with an "
        "idempotency key."
    )
