"""The caller's end of frames: a connection to a process, and a service of several processes."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import (
    DeadlineExceededError,
    InvalidArgumentsError,
    Outcome,
    OverloadedError,
    TenfoldError,
    UnknownOperationError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
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

__all__ = ["FrameLink", "RemoteService", "connect"]

_CONNECT_S: Final = 5.0
_LONGEST_WAIT_S: Final = 1.0
_FIRST_WAIT_S: Final = 0.02
_TRIES: Final = 3
"""Times that one call is sent, at the most, where a process was lost over it."""
_AWAY_S: Final = 2.0
"""After how long without a connection nobody waits for one any more: it is told at once."""
_MOST_AWAITING: Final = 100
"""How many wait for a connection, at the most, lest one dead service take all room."""
_LIFE_S: Final = 60.0
"""How long a connection is used, at the most: then a process that has come may be met."""
_log = logging.getLogger("tenfold.frames")
Answer = Answered | Refused | Failed


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
    try:
        async with asyncio.timeout(timeout_s):
            await link.greet()
    except (PeerLostError, TimeoutError) as error:
        link.close()
        raise PeerUnavailableError(
            f"The process behind {path} did not answer the greeting. Nothing was sent. It may "
            "hang: see its log, and `tenfold processes`."
        ) from error
    except FrameError as error:
        link.close()
        raise FrameError(f"The process behind {path} does not talk to us: {error}") from error
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
        self._reason = "The process closed the connection."
        self._writable = asyncio.Event()
        self._writable.set()
        self.leaving = False
        """Whether the process is about to end, so that new calls go elsewhere."""
        self.on_leaving: Callable[[FrameLink], None] | None = None
        self.retires_s = math.inf
        """When its service lets go of it, on the loop's clock."""

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
        return returned(outgoing.operation, await self.ask(outgoing))

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
        self.send(
            Call(
                number,
                f"{outgoing.module or self._module(spec)}.{spec.name}",
                raw(outgoing.arguments),
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
        """Tell every caller that waits."""
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

    def _module(self, spec: OperationSpec) -> str:
        module = self.hello.contracts.get(spec.contract)
        if module is None:
            raise UnknownOperationError(
                f"The process {self.hello.process!r} of {self.hello.product!r} has no module that "
                f"offers {spec.contract}. Nothing was sent. It offers: "
                f"{', '.join(sorted(self.hello.contracts))}."
            )
        return module


class RemoteService:
    """The processes of one service, over a few connections to each. Implements `Peer`.

    A call goes to the less busy of two connections chosen by chance (M. Mitzenmacher,
    "The Power of Two Choices in Randomized Load Balancing", 2001). Where a process was
    lost over a call, it is sent to another one: nothing was done, or it was a query,
    or a command whose key lets it happen once.
    """

    def __init__(self, name: str, dial: Callable[[], Awaitable[FrameLink]], *, links: int) -> None:
        """Nothing is connected before the first call.

        Args:
            name: of the service, for messages.
            dial: makes a connection to one of its processes.
            links: how many connections are held.
        """
        self._name = name
        self._dial = dial
        self._most = links
        self._links: list[FrameLink] = []
        self._dialing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._failed_s: float | None = None
        """Since when nobody can be reached."""
        self._awaiting = 0
        self._closed = False
        self._random = random.Random()

    async def call(self, outgoing: Outgoing) -> Returned:
        """Carry one call to a process of the service. See `Peer.call`.

        Raises: besides what `FrameLink.call` raises, PeerUnavailableError where no process
            answers in the time of the call (NOT_DONE); DeadlineExceededError.
        """
        timeout_s = outgoing.timeout_s or outgoing.operation.declaration.timeout_s
        until = self._now() + timeout_s + (outgoing.wait_s or 0.0)
        lost = False
        for left in reversed(range(_TRIES)):
            link = self._choose() or await self._await_link(until, lost)
            left_s = until - self._now()
            if left_s <= 0:
                break
            sent = msgspec.structs.replace(outgoing, timeout_s=min(timeout_s, left_s))
            try:
                answer = await link.ask(sent)
            except PeerUnavailableError as error:
                if left:
                    continue
                if lost:
                    error.outcome = Outcome.MAYBE_DONE
                raise
            except PeerLostError as error:
                # Queued work is begun again as a whole, under the same key.
                again = outgoing.key is not None and not outgoing.queued
                if not left or not (again or error.outcome is Outcome.NOT_DONE):
                    raise
                lost = lost or error.outcome is not Outcome.NOT_DONE
                continue
            try:
                return returned(outgoing.operation, answer)
            except TenfoldError as error:
                if lost and error.outcome is Outcome.NOT_DONE:
                    error.outcome = Outcome.MAYBE_DONE  # the one that was lost may have done it
                raise
        raise self._late(outgoing, lost)

    async def close(self) -> None:
        """End all connections; what is in progress on them is cancelled there."""
        self._closed = True
        if self._dialing is not None:
            self._dialing.cancel()
            await asyncio.gather(self._dialing, return_exceptions=True)
        links, self._links = self._links, []
        for link in links:
            link.on_leaving = None
            link.close()
        await asyncio.gather(*(link.ended.wait() for link in links))

    def _choose(self) -> FrameLink | None:
        """One of the connections; None where there is none."""
        links = self._links
        if len(links) < self._most:
            self._dial_more()
        if len(links) < 2:
            return links[0] if links else None
        one, other = self._random.sample(links, 2)
        link = one if one.outstanding <= other.outstanding else other
        if link.retires_s < self._now():
            links.remove(link)
            link.retire()
            return self._choose()
        return link

    async def _await_link(self, until: float, lost: bool) -> FrameLink:
        """Wait for a connection. Raises: PeerUnavailableError, MAYBE_DONE after a loss."""
        while True:
            self._changed.clear()
            self._dial_more()
            away = self._failed_s is not None and self._now() - self._failed_s > _AWAY_S
            if away or self._awaiting >= _MOST_AWAITING:
                raise self._unreachable(lost)
            left_s = until - self._now()
            self._awaiting += 1
            try:
                async with asyncio.timeout(max(left_s - min(0.1 * left_s, 0.2), 0)):
                    await self._changed.wait()
            except TimeoutError:
                raise self._unreachable(lost) from self._failure
            finally:
                self._awaiting -= 1
            link = self._choose()
            if link is not None:
                return link

    def _unreachable(self, lost: bool) -> PeerUnavailableError:
        why = "" if self._failure is None else f" The last try: {self._failure}"
        done = "It may be done by a process that was lost" if lost else "Nothing was done"
        return PeerUnavailableError(
            f"No process of the service {self._name!r} can be reached. {done}. Send it again "
            f"later; see whether the service runs.{why}",
            outcome=Outcome.MAYBE_DONE if lost else Outcome.NOT_DONE,
        )

    def _dial_more(self) -> None:
        if self._dialing is None and not self._closed:
            self._dialing = asyncio.get_running_loop().create_task(self._keep_dialing())

    async def _keep_dialing(self) -> None:
        """Connect until there are enough; try again, later each time, where that fails."""
        wait_s = _FIRST_WAIT_S
        try:
            while len(self._links) < self._most:
                try:
                    link = await self._dial()
                except (TenfoldError, OSError) as error:
                    self._failure = error
                    if not self._links:
                        self._note_away()
                    await asyncio.sleep(wait_s * (0.5 + self._random.random() / 2))
                    wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
                    continue
                if not link.usable:  # it was told to go elsewhere at once
                    await asyncio.sleep(wait_s)
                    continue
                self._failure = self._failed_s = None
                wait_s = _FIRST_WAIT_S
                link.retires_s = self._now() + _LIFE_S * (0.5 + self._random.random() / 2)
                link.on_leaving = self._left
                self._links.append(link)
                self._changed.set()
        finally:
            self._dialing = None

    def _note_away(self) -> None:
        if self._failed_s is None:
            _log.warning("The service %r cannot be reached. %s", self._name, self._failure)
            self._failed_s = self._now()
        self._changed.set()  # whoever waits looks whether that is any use

    def _left(self, link: FrameLink) -> None:
        """A process is about to end, or its connection is gone."""
        if link in self._links:
            self._links.remove(link)
            self._dial_more()

    def _late(self, outgoing: Outgoing, lost: bool) -> DeadlineExceededError:
        spec = outgoing.operation
        return DeadlineExceededError(
            f"The time for {spec.contract}.{spec.name} passed while processes of the service "
            f"{self._name!r} were lost. " + ("It may be done." if lost else "Nothing was done."),
            outcome=Outcome.MAYBE_DONE if lost else Outcome.NOT_DONE,
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def returned(spec: OperationSpec, answer: Answer) -> Returned:
    """What an answer means. Raises: the refusal or error that it stands for."""
    target = f"{spec.contract}.{spec.name}"
    try:
        if isinstance(answer, Answered):
            return Returned(
                value=msgspec.msgpack.decode(answer.value, type=spec.result),
                position=answer.position,
                replayed=answer.replayed,
                settled=answer.settled,
                behind=answer.behind,
                kept=answer.kept,
            )
        if isinstance(answer, Refused):
            raise _refusal(spec, answer)
    except msgspec.ValidationError as error:
        raise FrameError(
            f"The answer of {target} is not what its contract says: {error}. It was done. Is the "
            "process that runs of another version?",
            outcome=Outcome.DONE,
        ) from error
    raise _error(answer)


def _refusal(spec: OperationSpec, refused: Refused) -> Exception:
    for kind in spec.declaration.raises:
        if kind.code == refused.code:
            fields = msgspec.msgpack.decode(refused.fields, type=kind.payload_type())
            refusal: Refusal = kind(**{name: getattr(fields, name) for name in kind.fields})
            return refusal
    return FrameError(
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
