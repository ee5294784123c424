"""Runs the store in this process, which kills itself at the n-th passing of a named point.

    python victim.py POINT NUMBER ARMED [run arguments]

`ARMED` is `start` or `ready`: from when on passings are counted. With the point
`none` it only runs, and whoever watches kills it from outside. The points are
put around the real parts of the path from here, so that the product itself
knows nothing of its tests.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

POINTS = (
    "edge received",
    "admitted",
    "handler begun",
    "unit opened",
    "before flush",
    "after flush",
    "before commit",
    "after commit",
    "before answer",
    "relay read",
    "relay delivered",
    "queue claimed",
    "background begun",
    "handled before finish",
    "projection begun",
    "scheduled",
    "schedule run",
    "provider asked",
    "provider answered",
)


class Trap:
    """Counts passings of one point, and is deadly at the last."""

    def __init__(self, point: str, number: int, *, armed: bool) -> None:
        self.point = point
        self.left = number
        self.armed = armed
        self._lock = Lock()  # points are passed on several threads

    def passing(self, point: str) -> None:
        """Go on, or end here without another instruction of this process."""
        if point != self.point or not self.armed:
            return
        with self._lock:
            self.left -= 1
            if self.left > 0:
                return
            os.write(2, f"KILLED at {point}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()


def lay(trap: Trap) -> None:
    """Put the points around the parts of the path."""
    _lay_edge(trap)
    _lay_unit(trap)
    _lay_delivery(trap)
    _lay_schedule(trap)
    _lay_provider(trap)


def _before(owner: Any, name: str, passing: Callable[[], None]) -> None:
    real = getattr(owner, name)

    def first(*args: Any, **kwargs: Any) -> Any:
        passing()
        return real(*args, **kwargs)

    setattr(owner, name, first)


def _after(owner: Any, name: str, passing: Callable[[Any], None]) -> None:
    real = getattr(owner, name)

    async def then(*args: Any, **kwargs: Any) -> Any:
        result = await real(*args, **kwargs)
        passing(result)
        return result

    setattr(owner, name, then)


def _lay_edge(trap: Trap) -> None:
    from tenfold.edges.http.app import _HttpEdge
    from tenfold.edges.http.endpoint import Endpoint
    from tenfold.path.calls import Calls
    from tenfold.runtimes import server

    _before(Endpoint, "answer", lambda: trap.passing("edge received"))
    _before(Calls, "_carry", lambda: trap.passing("admitted"))
    _before(_HttpEdge, "_send", lambda: trap.passing("before answer"))

    def arm() -> None:
        trap.armed = True

    _before(server, "_greeting", arm)


def _lay_unit(trap: Trap) -> None:
    from tenfold.adapters.sqlite import writer
    from tenfold.adapters.sqlite.store import SqliteStore

    _before(SqliteStore, "_step", lambda: trap.passing("unit opened"))
    flush = SqliteStore._flush

    def flushed(self: Any, *args: Any) -> Any:
        trap.passing("before flush")
        position = flush(self, *args)
        trap.passing("after flush")
        return position

    SqliteStore._flush = flushed  # type: ignore[method-assign]
    opened = writer.open_writer

    def open_writer(file: Any) -> Any:
        connection = opened(file)
        if os.environ.get("FAULTS_SYNCHRONOUS") == "NORMAL":
            connection.execute("PRAGMA synchronous=NORMAL")
        return _Watched(connection, trap)

    writer.open_writer = open_writer


class _Watched:
    """The writer's connection; `sqlite3.Connection` itself cannot be patched."""

    def __init__(self, connection: Any, trap: Trap) -> None:
        self._connection = connection
        self._trap = trap

    def execute(self, sql: str, *values: Any) -> Any:
        if sql != "COMMIT":
            return self._connection.execute(sql, *values)
        self._trap.passing("before commit")
        cursor = self._connection.execute(sql)
        self._trap.passing("after commit")
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _lay_delivery(trap: Trap) -> None:
    from tenfold.adapters.sqlite.outbox import SqliteOutbox
    from tenfold.adapters.sqlite.queue import SqliteQueue
    from tenfold.path import delivery, operations

    _after(SqliteOutbox, "read", lambda page: page.rows and trap.passing("relay read"))
    _after(SqliteQueue, "deliver", lambda _: trap.passing("relay delivered"))
    _after(SqliteQueue, "cycle", lambda turn: turn.claim and trap.passing("queue claimed"))
    _after(delivery.Delivery, "handle", lambda _: trap.passing("handled before finish"))

    def begun(module: Any, name_of: Callable[[Any], str]) -> None:
        real = module.handle_in_unit

        async def handle(message: Any, make_unit: Any, begin: Any, *rest: Any) -> Any:
            async def begin_here() -> Any:
                trap.passing(name_of(message))
                return await begin()

            return await real(message, make_unit, begin_here, *rest)

        module.handle_in_unit = handle

    def background(message: Any) -> str:
        if message.projection is not None:
            return "projection begun"
        return "schedule run" if message.kind.value == "schedule" else "background begun"

    begun(operations, lambda _: "handler begun")
    begun(delivery, background)


def _lay_schedule(trap: Trap) -> None:
    from store.payments import module as payments
    from tenfold.path import schedule

    def each_second(_: str, after: datetime) -> datetime:
        return after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)

    schedule.decide_next_fire = each_second
    payments._STRAGGLES_AFTER = timedelta(seconds=1)
    _after(schedule.Schedules, "ensure", lambda _: trap.passing("scheduled"))


def _lay_provider(trap: Trap) -> None:
    from store.payments.testing_provider import TestProvider

    _before(TestProvider, "capture", lambda: trap.passing("provider asked"))
    _after(TestProvider, "capture", lambda _: trap.passing("provider answered"))


def _let_be_traced() -> None:
    """Let strace attach later, where only a process's parent may by default (Yama)."""
    if sys.platform == "linux":
        set_ptracer, any_process = 0x59616D61, 2**64 - 1
        ctypes.CDLL(None).prctl(set_ptracer, ctypes.c_ulong(any_process), 0, 0, 0)


def main() -> int:
    """Lay the trap, then run what `tenfold run` runs."""
    point, number, armed, *arguments = sys.argv[1:]
    assert point in (*POINTS, "none"), point
    _let_be_traced()
    lay(Trap(point, int(number), armed=armed == "start"))
    from tenfold.cli.entry import main as tenfold

    sys.argv[0] = "tenfold"
    return tenfold(["run", *arguments])


if __name__ == "__main__":
    sys.exit(main())
