"""Stepping a handler inside its open unit of work: what every store does alike."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

from tenfold.contracts.errors import AwaitInsideUnitOfWorkError
from tenfold.ports.unit import foreign_await

__all__ = ["close_handler", "refuse_await"]

_log = logging.getLogger("tenfold.store")


def close_handler(handler: Coroutine[Any, Any, Any] | None, context: Context) -> None:
    """End a handler that will not be finished, so that its clean-up runs, in its own context.

    What the clean-up raises is told in the log: it must not take the place of what
    the caller is answered, nor reach the units of work beside it.
    """
    if handler is None:
        return
    try:
        context.run(handler.close)
    except KeyboardInterrupt:
        raise
    except BaseException:
        _log.exception("The clean-up of %s failed, when it was given up.", handler)


def refuse_await(
    module: str, awaited: object, handler: Coroutine[Any, Any, Any], context: Context
) -> AwaitInsideUnitOfWorkError:
    """The error for what a handler awaited but its own database, told to it before.

    It is thrown into the handler, so that its clean-up runs; what that answers
    does not count.
    """
    error = foreign_await(module, _describe(awaited))
    try:
        context.run(handler.throw, error)
    except BaseException as raised:
        if raised is not error and not isinstance(raised, StopIteration):
            error.__context__ = raised
    else:
        close_handler(handler, context)
    return error


def _describe(awaited: object) -> str:
    if awaited is None:
        return "asyncio.sleep(0)"
    return f"a {type(awaited).__module__}.{type(awaited).__qualname__}"
