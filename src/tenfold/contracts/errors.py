"""The root of all errors, and the outcome that each of them states."""

from __future__ import annotations

from enum import Enum
from typing import ClassVar

__all__ = [
    "AwaitInsideUnitOfWorkError",
    "CallInsideUnitOfWorkError",
    "CommandFromCommandError",
    "ContractError",
    "DeadlineExceededError",
    "HandlerFaultError",
    "InvalidArgumentsError",
    "InvalidResultError",
    "KeyReusedError",
    "LeaseLostError",
    "NotPermittedError",
    "OutOfUnitOfWorkError",
    "Outcome",
    "OverloadedError",
    "RateLimitedError",
    "StoreUnavailableError",
    "TenfoldError",
    "UndeclaredRefusalError",
    "UnknownOperationError",
    "UserMistakeError",
]


class Outcome(Enum):
    """What became of the work that an error interrupted.

    `NOT_DONE`: nothing was committed, and a retry is safe. `MAYBE_DONE`: it may
    still have run; retry only with an idempotency key. `DONE`: it was committed,
    only the answer was lost.
    """

    NOT_DONE = "not_done"
    MAYBE_DONE = "maybe_done"
    DONE = "done"


class TenfoldError(Exception):
    """The root of every error that Tenfold raises.

    `code` is stable and unique (the error catalogue lists all of them), and
    `outcome` says whether the work may be retried. The message says what
    happened, what that means, and what to do.
    """

    code: ClassVar[str] = "tenfold.error"
    outcome: Outcome = Outcome.NOT_DONE

    def __init__(self, message: str, *, outcome: Outcome | None = None) -> None:
        super().__init__(message)
        if outcome is not None:
            self.outcome = outcome


class ContractError(TenfoldError):
    """A contract, module or event is declared in a way that cannot work; raised at start."""

    code = "contract.invalid"


class InvalidArgumentsError(TenfoldError):
    """An operation was called with arguments that its signature does not allow.

    `field` is the place, as a dotted path such as `lines.0.quantity`, or empty
    when the whole message could not be read. `detail` says what was found.
    """

    code = "call.invalid_arguments"

    def __init__(self, message: str, *, field: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.detail = detail or message


class InvalidResultError(TenfoldError):
    """A handler returned something other than its contract promises; a fault of the handler."""

    code = "call.invalid_result"


class UnknownOperationError(TenfoldError):
    """No module of this product offers the operation that was called."""

    code = "call.unknown_operation"


class NotPermittedError(TenfoldError):
    """The caller is not one of those whom the operation's `who=` admits."""

    code = "admit.not_permitted"


class DeadlineExceededError(TenfoldError):
    """The deadline of the message passed before its unit of work was committed."""

    code = "admit.deadline_exceeded"


class OverloadedError(TenfoldError):
    """More came than the declared limits admit; nothing was begun. Retry after `retry_after_s`."""

    code = "admit.overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitedError(TenfoldError):
    """The caller has used up a limit of so many in so long; nothing was begun.

    Retry after `retry_after_s`. `policy` is the limit's name: `limit` in any `window_s` seconds.
    """

    code = "admit.rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1.0,
        policy: str = "",
        limit: int = 0,
        window_s: int = 0,
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.policy = policy
        self.limit = limit
        self.window_s = window_s


class KeyReusedError(TenfoldError):
    """An idempotency key came again with a different request; nothing was done for the second."""

    code = "admit.key_reused"


class UndeclaredRefusalError(TenfoldError):
    """A handler raised a refusal that its operation does not declare in `raises=`."""

    code = "handle.undeclared_refusal"


class HandlerFaultError(TenfoldError):
    """A handler failed with an unexpected exception, which is its cause; nothing was committed."""

    code = "handle.fault"


class CommandFromCommandError(TenfoldError):
    """A handler called a command of another module where only queries are allowed."""

    code = "handle.command_from_command"


class CallInsideUnitOfWorkError(TenfoldError):
    """A handler called another module after its unit of work had begun."""

    code = "unit_of_work.call_inside"


class AwaitInsideUnitOfWorkError(TenfoldError):
    """A handler awaited something other than its own database after its unit of work had begun."""

    code = "unit_of_work.await_inside"


class OutOfUnitOfWorkError(TenfoldError):
    """Something that belongs to a unit of work was used where there is none."""

    code = "unit_of_work.missing"


class StoreUnavailableError(TenfoldError):
    """The database could not carry out the work: full disk, lost file, or too many conflicts."""

    code = "store.unavailable"


class LeaseLostError(TenfoldError):
    """A worker's lease on a queue entry had passed to another when it came to commit."""

    code = "queue.lease_lost"


class UserMistakeError(TenfoldError):
    """What a person typed is wrong: a topology file, a command line, a data file.

    The message has the place, what was found, what was expected, and the
    nearest right name.
    """

    code = "user.mistake"
