"""What PostgreSQL's errors mean: a lost connection, a conflict to be rerun, a store that fails."""

from __future__ import annotations

import asyncpg

from tenfold.contracts.errors import Outcome, StoreUnavailableError, TenfoldError

__all__ = [
    "DRIVER_ERRORS",
    "UnitTooLargeError",
    "is_conflict",
    "is_failure",
    "is_lost",
    "is_unfixable",
    "unavailable",
]

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""Whatever asyncpg raises, of the server's, its own and the network's."""
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    # The primary became a replica while this connection stood: what is written belongs elsewhere.
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.TargetServerAttributeNotMatched,
    # A table was changed under a prepared statement: new connections prepare it anew.
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
    OSError,
)
_FAILURES = (
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
)
_UNFIXABLE = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ClientConfigurationError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.UndefinedObjectError,
)


def is_lost(error: BaseException) -> bool:
    """Whether the connection that an error came from is of no more use."""
    return isinstance(error, _LOST) or is_unsent(error)


def is_unsent(error: BaseException) -> bool:
    """Whether the connection was found lost before anything was sent on it.

    asyncpg says so by errors that mean its own misuse as well.
    """
    if isinstance(error, asyncpg.InterfaceError):
        return "closed" in str(error)
    return isinstance(error, asyncpg.InternalClientError) and "cannot switch" in str(error)


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction lost against another one, so that it may be begun again."""
    return isinstance(error, (asyncpg.SerializationError, asyncpg.DeadlockDetectedError))


def is_unfixable(error: BaseException) -> bool:
    """Whether connecting again would fail alike: a wrong name, password or setting."""
    return isinstance(error, _UNFIXABLE)


def is_failure(error: BaseException) -> bool:
    """Whether the store could not do what it was asked, rather than refused what was wrong."""
    return isinstance(error, _FAILURES)


def unavailable(
    what: str, error: BaseException, *, outcome: Outcome = Outcome.NOT_DONE
) -> StoreUnavailableError:
    """What PostgreSQL could not do, as the platform's error, with the way to mend it.

    Args:
        what: the database or module, as it begins the sentence.
    """
    mend = "See the server's log, then send it again."
    if isinstance(error, asyncpg.LockNotAvailableError):
        mend = "Another transaction holds the rows: see pg_stat_activity, or raise lock_timeout_s."
    elif isinstance(error, asyncpg.QueryCanceledError):
        mend = "A statement took longer than statement_timeout_s: shorten it, or raise the limit."
    elif isinstance(error, (asyncpg.DiskFullError, asyncpg.OutOfMemoryError)):
        mend = "The server is out of room: make some, then send it again."
    elif is_lost(error):
        mend = "The connection was lost: see whether the server runs, then send it again."
    done = "Nothing was" if outcome is Outcome.NOT_DONE else "It may be"
    failure = StoreUnavailableError(
        f"{what} failed with {type(error).__name__}: {_first_line(error)}. {done} committed. "
        f"{mend}",
        outcome=outcome,
    )
    failure.__cause__ = error
    return failure


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else "no message"


class UnitTooLargeError(TenfoldError):
    """A handler gathered more in one unit of work than the store takes; nothing was committed."""

    code = "unit_of_work.too_large"
