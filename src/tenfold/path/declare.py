"""What a module declares beside its contract: subscriptions, jobs, schedules, projections."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    overload,
)

from tenfold.contracts.errors import ContractError, InvalidArgumentsError
from tenfold.contracts.structs import Event, Struct

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = [
    "BACKGROUND_ATTRIBUTE",
    "Background",
    "BoundJob",
    "EnqueueOptions",
    "Job",
    "Projection",
    "Subscription",
    "job",
    "schedule",
    "subscribe",
]

BACKGROUND_ATTRIBUTE = "__tenfold_background__"
_P = ParamSpec("_P")
_Self = TypeVar("_Self")
_E = TypeVar("_E", bound=Event)
_Subscriber = Callable[[Any, _E], Awaitable[None]]


class Background(Struct):
    """How background work is tried.

    `attempts` in all, 1 to 100; `timeout_s` for each, above 0, at most 3600.
    Between attempts it waits `backoff_s` doubled each time, up to an hour, with
    full jitter. Then it is a dead letter.
    """

    attempts: int = 8
    timeout_s: float = 30.0
    backoff_s: float = 0.5
    priority: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 100:
            raise ContractError(f"attempts={self.attempts} is outside 1 to 100.")
        if not 0 < self.timeout_s <= 3600:
            raise ContractError(f"timeout_s={self.timeout_s} is outside 0 to 3600 seconds.")
        if not 0 <= self.backoff_s <= 3600:
            raise ContractError(f"backoff_s={self.backoff_s} is outside 0 to 3600 seconds.")
        if not -100 <= self.priority <= 100:
            raise ContractError(f"priority={self.priority} is outside -100 to 100.")


class Subscription(Struct):
    """What `@subscribe` said.

    `start` is where a new subscription begins in the source's log; `batch` is how many
    events its handler takes at once, None for one.
    """

    background: Background
    start: Literal["now", "beginning"] = "beginning"
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and not 1 <= self.batch <= 1000:
            raise ContractError(f"batch={self.batch} is outside 1 to 1,000.")


class ScheduleDeclaration(Struct):
    """What `@schedule` said: a cron expression, read in UTC."""

    background: Background
    cron: str


@overload
def subscribe(
    method: Callable[[_Self, _E], Awaitable[None]], /
) -> Callable[[_Self, _E], Awaitable[None]]: ...
@overload
def subscribe(
    *,
    attempts: int = 8,
    timeout_s: float = 30.0,
    backoff_s: float = 0.5,
    start: Literal["now", "beginning"] = "beginning",
) -> Callable[[Callable[[_Self, _E], Awaitable[None]]], Callable[[_Self, _E], Awaitable[None]]]: ...
@overload
def subscribe(
    *,
    batch: int,
    attempts: int = 8,
    timeout_s: float = 30.0,
    backoff_s: float = 0.5,
    start: Literal["now", "beginning"] = "beginning",
) -> Callable[
    [Callable[[_Self, list[_E]], Awaitable[None]]], Callable[[_Self, list[_E]], Awaitable[None]]
]: ...
def subscribe(
    method: Any = None,
    /,
    *,
    attempts: int = 8,
    timeout_s: float = 30.0,
    backoff_s: float = 0.5,
    start: Literal["now", "beginning"] = "beginning",
    batch: int | None = None,
) -> Any:
    """Handle an event of any module; its type is the annotation of the one argument.

    Each event is handled once in effect, in the order of its key, after its
    publisher has committed.

    With `batch`, for volume, the argument is a list of events, `events: list[OrderPlaced]`:
    as many as there are, up to so many, in the order of the publisher's log and of one
    tenant, handled in one unit of work. No other process handles this subscription at the
    same time. Such a handler may ask queries and enqueue jobs, and calls no commands. A
    batch that fails twice is tried event by event; one that fails by itself `attempts`
    times goes to the queue, where it is tried as often again and ends as a dead letter.

    Args:
        attempts: 1 to 100, then it is a dead letter.
        timeout_s: seconds for each attempt.
        backoff_s: seconds before the second attempt; doubled for each further one.
        start: where a subscription that is new begins in the publisher's log.
        batch: the most events at once, 1 to 1,000; without it, one by one.
    """
    subscription = Subscription(
        background=Background(attempts=attempts, timeout_s=timeout_s, backoff_s=backoff_s),
        start=start,
        batch=batch,
    )

    def mark(function: Any) -> Any:
        setattr(function, BACKGROUND_ATTRIBUTE, subscription)
        return function

    return mark if method is None else mark(method)


def schedule(
    cron: str, *, attempts: int = 8, timeout_s: float = 60.0, backoff_s: float = 1.0
) -> Callable[[Callable[[_Self], Awaitable[None]]], Callable[[_Self], Awaitable[None]]]:
    """Run a method of the module at the times of a cron expression, in UTC.

    Each time runs once, on the store's clock; times that passed while the
    product was down are made up for by one run.

    Args:
        cron: five fields, such as `"*/5 * * * *"`.
    """
    declaration = ScheduleDeclaration(
        background=Background(attempts=attempts, timeout_s=timeout_s, backoff_s=backoff_s),
        cron=cron,
    )

    def mark(method: Callable[[_Self], Awaitable[None]]) -> Callable[[_Self], Awaitable[None]]:
        setattr(method, BACKGROUND_ATTRIBUTE, declaration)
        return method

    return mark


class EnqueueOptions(Struct):
    """How one job is enqueued. See `BoundJob.with_`."""

    delay_s: float = 0.0
    run_at: datetime | None = None
    unique: str | None = None
    priority: int | None = None
    order_key: str | None = None

    def due(self, now: datetime) -> datetime | None:
        """When the job may run; None for at once. Raises: InvalidArgumentsError (NOT_DONE)."""
        if self.run_at is not None:
            if self.run_at.tzinfo is None:
                raise InvalidArgumentsError(
                    f"run_at={self.run_at} has no time zone, so that nobody can tell when it is. "
                    "Nothing was enqueued. Say it in UTC, for instance from `tenfold.now()`.",
                    field="run_at",
                )
            return self.run_at.astimezone(UTC)
        if self.delay_s <= 0:
            return None
        try:
            return now + timedelta(seconds=self.delay_s)
        except (OverflowError, ValueError) as error:
            raise InvalidArgumentsError(
                f"delay_s={self.delay_s} leads to no date. Nothing was enqueued.", field="delay_s"
            ) from error


class Job(Generic[_P]):
    """A job of a module, as a descriptor: on an instance it is a `BoundJob`."""

    def __init__(
        self, method: Callable[Concatenate[Any, _P], Awaitable[None]], background: Background
    ) -> None:
        self.method = method
        self.background = background
        self.name = method.__name__
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Job[_P]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> BoundJob[_P]: ...
    def __get__(self, instance: object | None, owner: type) -> Job[_P] | BoundJob[_P]:
        """The job itself on the class, a `BoundJob` on an instance."""
        return self if instance is None else BoundJob(self, instance, EnqueueOptions())


class BoundJob(Generic[_P]):
    """A job of one module's instance, ready to be enqueued."""

    __slots__ = ("_instance", "_job", "_options")

    def __init__(self, job: Job[_P], instance: object, options: EnqueueOptions) -> None:
        self._job = job
        self._instance = instance
        self._options = options

    def with_(
        self,
        *,
        delay_s: float = 0.0,
        run_at: datetime | None = None,
        unique: str | None = None,
        priority: int | None = None,
        order_key: str | None = None,
    ) -> BoundJob[_P]:
        """The same job with options.

        Args:
            delay_s: seconds before it may run.
            run_at: the moment before which it does not run; instead of `delay_s`.
            unique: while a job of this name and key waits or runs, no other is added.
            priority: higher runs earlier; 0 is ordinary, -100 to 100.
            order_key: jobs of this name with an equal key run one after another.
        """
        options = EnqueueOptions(
            delay_s=delay_s, run_at=run_at, unique=unique, priority=priority, order_key=order_key
        )
        return BoundJob(self._job, self._instance, options)

    def enqueue(self, *args: _P.args, **kwargs: _P.kwargs) -> str:
        """Enqueue it with the commit of the present unit of work; returns its id.

        Raises: OutOfUnitOfWorkError in a query or outside a message;
        InvalidArgumentsError (NOT_DONE).
        """
        from tenfold.path.unit_of_work import enqueue

        return enqueue(self._job, self._options, args, kwargs)

    async def run(self, *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Run the job's method here and now, in the caller's unit of work: for tests and reuse."""
        await self._job.method(self._instance, *args, **kwargs)


def job(
    *,
    attempts: int = 8,
    timeout_s: float = 30.0,
    backoff_s: float = 0.5,
    priority: int = 0,
) -> Callable[[Callable[Concatenate[Any, _P], Awaitable[None]]], Job[_P]]:
    """Declare background work of a module, enqueued with `self.name.enqueue(...)`.

    Args:
        attempts: 1 to 100, then it is a dead letter.
        timeout_s: seconds for each attempt.
        backoff_s: seconds before the second attempt; doubled for each further one.
        priority: higher runs earlier; 0 is ordinary, -100 to 100.
    """
    background = Background(
        attempts=attempts, timeout_s=timeout_s, backoff_s=backoff_s, priority=priority
    )

    def make(method: Callable[Concatenate[Any, _P], Awaitable[None]]) -> Job[_P]:
        return Job(method, background)

    return make


class Projection:
    """A read model kept from events, which can be rebuilt from them.

    A subclass names its tables, has `db: Database`, one `@subscribe` method for
    each event that it is kept from, and methods that read it. A module gets it
    by an annotation, `history: OrderHistory`. The platform makes its tables (no
    migration does), keeps one set of them for each generation, and swaps sets
    when a rebuild has caught up; so it must depend on events alone, never on
    the time, on chance or on other tables.
    """

    name: ClassVar[str]
    tables: ClassVar[tuple[Table, ...]]
