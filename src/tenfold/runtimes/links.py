"""The link between a supervisor and each of its processes: a pair of sockets, a line a message.

The supervisor says the assignment first, and later how to stop. The process says
that it is ready, that it has done what it was for, or why it cannot. Both may be
of different versions while a new one is deployed, so that messages only ever
gain fields. The end of the link is the end of the supervisor, however it came.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Literal

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.roles import Role

__all__ = ["Assignment", "ChildLink", "Done", "Failed", "Ready", "Report", "Stop", "decode_report"]

Task = Literal["run", "before", "after"]
_ORPHAN_S = 60.0


class Assignment(Struct, tag="assignment"):
    """What a process is to be.

    `task` is `run`, or one of the phases of `preparing`. `listener` is the descriptor
    of an inherited socket; `people` is whether people read the log. `within_s` bounds
    how long it may go on without a supervisor.
    """

    name: str
    role: Role = Role.ALL
    task: Task = "run"
    file: str
    topology: str
    overrides: dict[str, str] = msgspec.field(default_factory=dict)
    listener: int | None = None
    people: bool = False
    within_s: float = _ORPHAN_S

    def as_task(self, task: Task, role: Role | None) -> Assignment:
        """The same with another task, and another role if one is given."""
        # Whoever else held the socket would keep its queue of connections open, and accept none.
        serves = task == "run" and role is not Role.WORKER
        listener = self.listener if serves else None
        return msgspec.structs.replace(self, task=task, role=role or self.role, listener=listener)


class Stop(Struct, tag="stop"):
    """Drain and end."""

    order: DrainOrder = DrainOrder()


class Ready(Struct, tag="ready"):
    """The process does its work."""


class Done(Struct, tag="done"):
    """The process has done what it was for, and ends. `said` is for people, if anything is."""

    said: str = ""


class Failed(Struct, tag="failed"):
    """The process could not begin; `code` is that of the error, if it was a foreseen one."""

    message: str
    code: str = ""


Report = Ready | Done | Failed
_encode = msgspec.json.Encoder().encode
_decode_report = msgspec.json.Decoder(Report).decode
_decode_order = msgspec.json.Decoder(Assignment | Stop).decode


def decode_report(line: bytes) -> Report:
    """What a process said. Raises: msgspec.DecodeError."""
    report: Report = _decode_report(line)
    return report


class ChildLink:
    """The process's end of the link.

    A thread listens, so that an order is heard, and a dead supervisor noticed,
    also while the event loop does not run or does not yield.
    """

    def __init__(self, fd: int) -> None:
        """Take over an inherited descriptor and wait for the assignment."""
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        os.set_inheritable(fd, False)
        self._lines = self._socket.makefile("rb")
        first = _decode_order(self._lines.readline())
        if not isinstance(first, Assignment):
            raise ValueError("the supervisor said no assignment")
        self.assignment = first
        self._lock = threading.Lock()
        self._stop: DrainOrder | None = None
        self._on_stop: Callable[[DrainOrder], None] | None = None
        threading.Thread(target=self._listen, name="tenfold-link", daemon=True).start()

    def say(self, report: Report) -> None:
        """Report to the supervisor, if it still lives."""
        with contextlib.suppress(OSError):
            self._socket.sendall(_encode(report) + b"\n")

    def on_stop(self, callback: Callable[[DrainOrder], None]) -> None:
        """Call this, from the listening thread, when the process is to stop, or was already."""
        with self._lock:
            self._on_stop = callback
            order = self._stop
        if order is not None:
            callback(order)

    def _listen(self) -> None:
        for line in self._lines:
            order = _decode_order(line)
            if isinstance(order, Stop):
                self._ask(order.order)
        # Nobody takes our place, and a new supervisor wants the port.
        self._ask(DrainOrder(keep_idle=False))
        # However busy the loop is, there is an end: two generations must not both go on.
        threading.Event().wait(self.assignment.within_s)
        os._exit(1)

    def _ask(self, order: DrainOrder) -> None:
        with self._lock:
            self._stop = self._stop or order
            callback = self._on_stop
        if callback is not None:
            callback(order)
