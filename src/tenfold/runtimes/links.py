"""The link between a supervisor and each of its processes: a pair of sockets, a line a message.

The supervisor says the assignment first, and later how to stop. The process says
that it is ready, that it has done what it was for, or why it cannot; each second
that its event loop turns; and, when asked for it, what it has measured. A process
may ask for what all of them have measured. Both may be of different versions
while a new one is deployed, so that messages only ever gain fields. The end of the
link is the end of the supervisor, however it came.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import Literal

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.processes import Splitting
from tenfold.runtimes.roles import Role

__all__ = [
    "BEAT_S",
    "AskMetrics",
    "Assignment",
    "Beat",
    "ChildLink",
    "Divert",
    "Diverted",
    "Done",
    "Failed",
    "Gathered",
    "Measure",
    "Measured",
    "Order",
    "Ready",
    "Report",
    "Said",
    "Stop",
    "decode_said",
    "encode_message",
]

Task = Literal["run", "before", "after"]
_ORPHAN_S = 60.0
BEAT_S = 1.0
"""How often a process says that its event loop turns."""


class Assignment(Struct, tag="assignment"):
    """What a process is to be.

    `task` is `run`, or one of the phases of `preparing`. `listener` and `calls` are the
    descriptors of inherited sockets: for HTTP, and for the calls of others. `splitting` is
    the service that hosts some modules of this process too.
    `sockets` are the paths where the services listen; `people` is whether people read the
    log. `within_s` bounds how long it may go on without a supervisor.
    """

    name: str
    role: Role = Role.ALL
    task: Task = "run"
    file: str
    topology: str
    overrides: dict[str, str] = msgspec.field(default_factory=dict)
    service: str = ""
    splitting: Splitting | None = None
    listener: int | None = None
    calls: int | None = None
    sockets: dict[str, str] = msgspec.field(default_factory=dict)
    people: bool = False
    within_s: float = _ORPHAN_S


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


class Beat(Struct, tag="beat"):
    """The event loop of the process turns."""


class Measure(Struct, tag="measure"):
    """Say what you have measured, with this number."""

    number: int


class Measured(Struct, tag="measured"):
    """What one process has measured, as Prometheus text."""

    number: int
    text: str


class Divert(Struct, tag="divert"):
    """Let this share of the calls of a module that is split go to its service; and say how it is.

    The answer has this number.
    """

    number: int
    share: float


class Diverted(Struct, tag="diverted"):
    """How many calls went where since the start, in one process."""

    number: int
    counts: SplitCounts


class AskMetrics(Struct, tag="ask_metrics"):
    """Tell me what all processes have measured."""


class Gathered(Struct, tag="gathered"):
    """What all processes have measured, as Prometheus text."""

    text: str


Report = Ready | Done | Failed
Said = Report | Beat | Measured | Diverted | AskMetrics
Order = Stop | Measure | Divert | Gathered
_encode = msgspec.json.Encoder().encode
_decode_said = msgspec.json.Decoder(Said).decode
_decode_order = msgspec.json.Decoder(Assignment | Order).decode


def encode_message(message: Assignment | Order | Said) -> bytes:
    """A message as its line."""
    return _encode(message) + b"\n"


def decode_said(line: bytes) -> Said:
    """What a process said. Raises: msgspec.DecodeError."""
    said: Said = _decode_said(line)
    return said


class ChildLink:
    """The process's end of the link.

    A thread listens, so that an order is heard, and a dead supervisor noticed,
    also while the event loop does not run or does not yield. Another one speaks,
    so that the loop never waits for a supervisor that is busy.
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
        self._on_order: list[Callable[[Order], None]] = []
        self._unsaid: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._saying = threading.Lock()
        threading.Thread(target=self._listen, name="tenfold-link", daemon=True).start()
        threading.Thread(target=self._speak, name="tenfold-link-out", daemon=True).start()

    def say(self, said: Said) -> None:
        """Tell the supervisor, if it still lives, before this returns."""
        with contextlib.suppress(OSError), self._saying:
            self._socket.sendall(encode_message(said))

    def say_later(self, said: Said) -> None:
        """Tell the supervisor as soon as it listens."""
        self._unsaid.put(said)

    def beat(self) -> None:
        """Say that the loop turns, unless the supervisor has not taken in the last time yet."""
        if self._unsaid.empty():
            self._unsaid.put(Beat())

    def on_stop(self, callback: Callable[[DrainOrder], None]) -> None:
        """Call this, from the listening thread, when the process is to stop, or was already."""
        with self._lock:
            self._on_stop = callback
            order = self._stop
        if order is not None:
            callback(order)

    def on_order(self, callback: Callable[[Order], None]) -> None:
        """Call this too, from the listening thread, with every order but the one to stop."""
        self._on_order.append(callback)

    def _speak(self) -> None:
        while True:
            self.say(self._unsaid.get())

    def _listen(self) -> None:
        # A supervisor that dies with something unread resets the link, which reads as an error.
        with contextlib.suppress(OSError):
            self._hear()
        # Nobody takes our place, and a new supervisor wants the port.
        self._ask(DrainOrder(keep_idle=False))
        # However busy the loop is, there is an end: two generations must not both go on.
        threading.Event().wait(self.assignment.within_s)
        os._exit(1)

    def _hear(self) -> None:
        for line in self._lines:
            try:
                order = _decode_order(line)
            except msgspec.DecodeError:
                continue  # a newer supervisor's; what it needs of us it has said so far
            if isinstance(order, Stop):
                self._ask(order.order)
            elif not isinstance(order, Assignment):
                for callback in list(self._on_order):
                    callback(order)

    def _ask(self, order: DrainOrder) -> None:
        with self._lock:
            self._stop = self._stop or order
            callback = self._on_stop
        if callback is not None:
            callback(order)
