"""What the processes of one machine have measured, gathered for whoever asks one of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from tenfold.contracts.errors import TenfoldError
from tenfold.observe.gathered import Family, merge_texts
from tenfold.observe.metrics import render_gauges, render_metrics
from tenfold.runtimes.gauges import Gauges
from tenfold.runtimes.host import Host
from tenfold.runtimes.links import AskMetrics, ChildLink, Gathered, Measure, Measured, Order
from tenfold.runtimes.restarts import ProcessState

__all__ = ["Gathering", "ProcessMetrics"]

_GATHER_S = 1.0
_ANSWER_S = 2.0
_Measured = list[tuple[ProcessState, str | None]]


class Gathering:
    """The supervisor's part: asks every process, within a bound, and puts the answers together.

    Those who ask while it is under way get the same answer, so that nobody loads
    the processes by asking often.
    """

    def __init__(self, measure: Callable[[float], Awaitable[_Measured]]) -> None:
        """Args: measure: every process, with what it said within so many seconds."""
        self._measure = measure
        self._under_way: asyncio.Task[str] | None = None

    async def text(self) -> str:
        """All series of all processes, as Prometheus text, each with its `process`."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(self._gather())
        return await asyncio.shield(self._under_way)

    async def _gather(self) -> str:
        found = await self._measure(_GATHER_S)
        up = Family("tenfold_process_up", "gauge", "1 while it runs and says what it measured.")
        restarts = Family(
            "tenfold_process_restarts_total", "counter", "Starts anew after it ended by itself."
        )
        for state, text in found:
            up.add({"process": state.name}, 0 if text is None else 1)
            restarts.add({"process": state.name}, state.restarts)
        texts = [({"process": state.name}, text) for state, text in found if text is not None]
        return merge_texts(texts) + up.text() + restarts.text()


class ProcessMetrics:
    """One process's part: says what it has measured, and answers for all of them.

    What is read from databases is told once, by whoever answers.
    """

    def __init__(self, host: Host, link: ChildLink) -> None:
        """Listen to the link, on the event loop that runs now."""
        self._host = host
        self._link = link
        self._gauges = Gauges(host)
        self._waiting: asyncio.Future[str] | None = None
        service = link.assignment.service
        self._tells_stored = bool(service) and link.assignment.name == f"{service}-1"
        self._saying: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()

        def heard(order: Order) -> None:
            if isinstance(order, Measure | Gathered):
                with contextlib.suppress(RuntimeError):  # the loop has ended, as it should
                    loop.call_soon_threadsafe(self._hear, order)

        link.on_order(heard)

    async def text(self) -> bytes:
        """What all processes of this machine have measured, and what the databases say.

        Without an answer of the supervisor in time it is this process's own.
        """
        gathered = await self._ask()
        # Afterwards, so that these reads are not among the connections that are told as lent.
        return gathered.encode() + render_gauges(await self._gauges.stored())

    async def _ask(self) -> str:
        waiting = self._waiting
        if waiting is None:
            waiting = self._waiting = asyncio.get_running_loop().create_future()
            self._link.say_later(AskMetrics())
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await asyncio.shield(waiting)
        except TimeoutError:
            if self._waiting is waiting:
                self._waiting = None
            return merge_texts([({"process": self._link.assignment.name}, self._own())])

    def _hear(self, order: Measure | Gathered) -> None:
        if isinstance(order, Measure):
            if self._tells_stored:
                self._saying = asyncio.create_task(self._say_all(order.number))
            else:
                self._link.say_later(Measured(number=order.number, text=self._own()))
        elif self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            if not waiting.done():
                waiting.set_result(order.text)

    async def _say_all(self, number: int) -> None:
        """Say what is read from the databases too: whoever answers for all hosts none of them."""
        own = self._own()
        try:
            own += render_gauges(await self._gauges.stored()).decode()
        except TenfoldError:
            pass  # the database is away, which other series tell
        self._link.say_later(Measured(number=number, text=own))

    def _own(self) -> str:
        return render_metrics(self._host.stops.all(), self._gauges.own()).decode()
