"""The unit of work as the path and a store share it, and the message being handled."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import Context, ContextVar
from typing import Any, Protocol

from tenfold.contracts.envelope import Envelope
from tenfold.contracts.errors import (
    AwaitInsideUnitOfWorkError,
    LeaseLostError,
    OutOfUnitOfWorkError,
    TenfoldError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Struct
from tenfold.ports.records import (
    EventRecord,
    InboxKey,
    PlaceMove,
    QueueEntry,
    ReplyKey,
    StoredReply,
)
from tenfold.ports.replicas import Freshness

__all__ = [
    "CURRENT",
    "OPEN",
    "BufferedWrite",
    "GuardLoop",
    "Message",
    "Unit",
    "UnitLostError",
    "UnitResult",
    "Units",
    "current_message",
    "foreign_await",
    "lease_gone",
    "place_gone",
]


class UnitLostError(TenfoldError):
    """The store rolled the unit of work back for reasons of its own; begin the handler again."""

    code = "unit_of_work.lost"


class BufferedWrite(Struct):
    """A product's statement that goes out with the commit.

    `refuse` maps the name of a constraint to the refusal that its violation means.
    """

    statement: Any
    parameters: Mapping[str, Any]
    refuse: Mapping[str, Refusal]


class Unit:
    """One unit of work: what commits together, or not at all.

    Belongs to one message and is used by one thread at a time: the event loop's
    until it opens, the store's from then on.
    """

    __slots__ = (
        "broken",
        "buffered",
        "cancelled",
        "closed",
        "deadline",
        "encode_reply",
        "entries",
        "events",
        "fence",
        "inbox",
        "message_id",
        "place",
        "projection",
        "reply_key",
        "sealed",
        "session",
        "tenant",
    )

    def __init__(self, message_id: str, tenant: str, deadline: float) -> None:
        self.message_id = message_id
        self.tenant = tenant
        self.deadline = deadline
        self.events: list[EventRecord] = []
        self.entries: list[QueueEntry] = []
        self.buffered: list[BufferedWrite] = []
        self.inbox: InboxKey | None = None
        self.fence: int | None = None
        self.place: PlaceMove | None = None
        """Which subscription moves on with this unit, past a batch of events."""
        self.reply_key: ReplyKey | None = None
        self.projection: tuple[str, int] | None = None
        """The projection and generation whose tables this unit writes, instead of the active."""
        self.encode_reply: Callable[[Any], bytes] = _no_reply
        self.cancelled = False
        """Set by the waiting side: whoever carries the unit rolls it back if it still can."""
        self.sealed = False
        """Set by the carrying side just before its last look at `cancelled`: from then on the
        unit may commit, so that whoever gives up afterwards must say MAYBE_DONE."""
        self.broken: TenfoldError | None = None
        """What the handler did that no unit of work survives, even where it caught the error."""
        self.closed = False
        """Whether it has ended, so that what is handed to it now would be lost."""
        self.session: Any = None
        """The store's own session while the unit is open; None before and after."""

    @property
    def must_commit(self) -> bool:
        """Whether there is anything to commit although the handler ran no statement.

        The inbox alone is not: a message without an effect may be handled again.
        """
        return bool(self.events or self.entries or self.buffered or self.reply_key)


def _no_reply(_: Any) -> bytes:
    return b""


class UnitResult(Struct):
    """How a unit of work ended.

    `position` is the outbox's after the commit. `replay` is set instead of
    `value` where the reply key was there already; `duplicate` where the inbox
    had the message, and nothing ran.
    """

    value: Any
    position: int
    replay: StoredReply | None = None
    duplicate: bool = False


class Units(Protocol):
    """Carries units of work: serializable, one commit each, all or nothing."""

    async def run(
        self, unit: Unit, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> UnitResult:
        """Open the unit, finish the handler inside it, flush what it buffered, commit.

        Args:
            handler: a coroutine that has just yielded `OPEN` and is stepped
                inside `context`; None where the handler has returned `value`
                without a statement of its own.
        Raises: what the handler raised, after a rollback; UnitLostError when
            the handler must begin again; DeadlineExceededError;
            StoreUnavailableError (NOT_DONE).
        """
        ...


class Message:
    """One message while it is handled; the present one is in `CURRENT`.

    `deadline` is on the monotonic clock. `calls` counts the commands that a
    job or keyed command has called, by their targets, for their keys; `effects`
    is true from the moment at which one of them may have committed. `decision`
    is true for a query that a command's handler asks.
    """

    __slots__ = (
        "calls",
        "decision",
        "deadline",
        "effects",
        "envelope",
        "freshness",
        "generation",
        "host",
        "kind",
        "module",
        "projection",
        "trail",
        "unit",
    )

    def __init__(
        self, envelope: Envelope, kind: Kind, module: str, deadline: float, unit: Unit | None
    ) -> None:
        self.envelope = envelope
        self.kind = kind
        self.module = module
        self.deadline = deadline
        self.unit = unit
        self.calls: dict[str, int] | None = None
        self.effects = False
        self.decision = False
        self.freshness: Freshness | None = None
        """How new its reads must be, where there are replicas to read from."""
        self.trail: Any = None
        """What goes with a question where kept answers may matter; None where none has."""
        self.projection: str | None = None
        self.generation = 1
        self.host: Any = None

    @property
    def repeatable(self) -> bool:
        """Whether it is the same message when it is handled again, with the same calls in it."""
        return True


CURRENT: ContextVar[Message] = ContextVar("tenfold_message")


def current_message() -> Message:
    """The message being handled. Raises OutOfUnitOfWorkError outside of one."""
    message = CURRENT.get(None)
    if message is None:
        raise OutOfUnitOfWorkError(
            "This was used outside the handling of a message. Use it from a module's "
            "operation, job, schedule or subscription."
        )
    return message


class _Open:
    """Awaited at a handler's first statement; whoever drives the handler opens the unit of work.

    Its text is what asyncio prints when the statement was awaited in a task of its own, where
    nobody drives the handler.
    """

    def __await__(self) -> Generator[Any, Any, None]:
        yield self

    def __repr__(self) -> str:
        return (
            "<a statement of a unit of work, awaited in a task of its own: await it in the "
            "handler itself, one after another, without gather() or create_task()>"
        )


OPEN = _Open()


def lease_gone() -> LeaseLostError:
    """The error for a worker whose claim another one has ended."""
    return LeaseLostError(
        "The lease on this entry has passed to another worker, which will run it. "
        "Nothing was committed here."
    )


def place_gone() -> LeaseLostError:
    """The error for a batch of events that another process was faster with."""
    return LeaseLostError(
        "The subscription was moved on by another process, which has handled these events. "
        "Nothing was committed here."
    )


def foreign_await(module: str, what: str) -> AwaitInsideUnitOfWorkError:
    """The error for an await that does not belong into an open unit of work."""
    return AwaitInsideUnitOfWorkError(
        f"A handler of {module!r} awaited {what} after its unit of work had begun, which would "
        "hold the database while it waits. Nothing was committed. Gather first: move the await "
        "above the handler's first statement on self.db; or enqueue a job that does it afterwards."
    )


class GuardLoop:
    """Stands in for the event loop while a unit of work is stepped: every use of it is refused."""

    def __init__(self, module: str) -> None:
        object.__setattr__(self, "_module", module)

    def __getattr__(self, name: str) -> Any:
        error = foreign_await(object.__getattribute__(self, "_module"), f"the event loop ({name})")
        message = CURRENT.get(None)
        if message is not None and message.unit is not None:
            message.unit.broken = error
        raise error
