"""The walk of a running product from one hosting of a module to another, and the way back.

    out:   web processes can call the service   it begins   1 % … 100 % of the calls go there
           web processes host the module no more
    back:  web processes host the module too   100 % … 0 % go to its service   it ends
           web processes know of none

At each moment whoever hosts the module works on the same data, so that either may answer any
call, and what is begun at one side may end at the other. Nothing lasts before the end: a product
that is stopped on the way starts as it was before.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.durable import replace_durably
from tenfold.runtimes.fleet import Fleet
from tenfold.runtimes.processes import PlannedProcess
from tenfold.runtimes.services import Sockets
from tenfold.runtimes.splits.asked import SplitAsked, SplitRolledBackError
from tenfold.runtimes.splits.plan import (
    SHARES,
    Hosting,
    decide_both,
    decide_hosting,
    decide_verdict,
    side_of,
)
from tenfold.runtimes.topology import ProductFile, read_product_file

__all__ = ["Splits"]

_LOOK_S = 1.0
_ANSWER_S = 5.0
_EARLY_S = 0.01
_log = logging.getLogger("tenfold.supervisor")


class Splits:
    """What a supervisor does to split a module, or to take it back."""

    def __init__(self, fleet: Fleet, sockets: Sockets, overrides: Mapping[str, str]) -> None:
        """Take the parts.

        Args:
            overrides: what the command line said.
        """
        self._fleet = fleet
        self._sockets = sockets
        self._overrides = overrides
        self._stopping = False

    def stop(self) -> None:
        """The product ends: what is under way is given up, and not taken back."""
        self._stopping = True

    async def split(self, asked: SplitAsked, tell: Callable[[str], None]) -> None:
        """Walk there; and back where that fails, or is given up.

        Args:
            tell: is told each step, for people.
        Raises: UserMistakeError, where nothing was done; SplitRolledBackError.
        """

        from tenfold.runtimes.splits.file import edit_hosting, written_beside

        def step(text: str) -> None:
            _log.info(text)
            tell(text)

        if self._fleet.turning.locked():
            step("Another restart or split is under way, whose end this one waits for.")
        async with self._fleet.turning:
            before = self._fleet.reread()
            _refuse_variables(before)
            hosting = decide_hosting(asked, before)
            text = before.file.read_text(encoding="utf-8")
            with written_beside(before.file, edit_hosting(text, hosting)) as beside:
                after = self._read(beside, before)
                walk = _Walk(self._fleet, self._sockets, asked, hosting, before, after, step)
                try:
                    await walk.go()
                    if before.file.read_text(encoding="utf-8") != text:
                        raise UserMistakeError(f"{before.file} was changed meanwhile.")
                    replace_durably(before.file, beside.read_bytes())
                except BaseException as error:
                    failed = None if self._stopping else await walk.undo()
                    if not isinstance(error, TenfoldError | OSError):
                        raise
                    how = failed or f"{asked.module} is hosted as it was before."
                    raise SplitRolledBackError(f"{error} {how}") from error
                self._fleet.settle(self._read(before.file, before))
            self._sockets.close_others(self._fleet.source.topology.groups)
            step(f"{before.file} says so now.")
            await self._fleet.prepare("after")

    def _read(self, file: Path, before: ProductFile) -> ProductFile:
        """A file that is to be the topology file. Raises: UserMistakeError as if it were."""
        try:
            return read_product_file(file, before.topology.name, overrides=self._overrides)
        except UserMistakeError as error:
            told = str(error).replace(str(file), f"{before.file}, as it would be")
            raise UserMistakeError(f"{told} Nothing was done.") from error


class _Walk:
    """One walk. `before` and `after` are the topology file as it is, and as it will be."""

    def __init__(
        self,
        fleet: Fleet,
        sockets: Sockets,
        asked: SplitAsked,
        hosting: Hosting,
        before: ProductFile,
        after: ProductFile,
        tell: Callable[[str], None],
    ) -> None:
        self._fleet = fleet
        self._sockets = sockets
        self._asked = asked
        self._service = hosting.service
        self._before = before
        self._after = after
        self._tell = tell
        self._apart = before if asked.back else after
        """The file in which the module has a service of its own."""
        planned = self._apart.topology.planned
        self._names = {each.name for each in planned if self._is_of_service(each)}
        """The processes of that service."""
        self._counted: dict[int, SplitCounts] = {}
        self._total = SplitCounts()
        self._ending = False

    async def go(self) -> None:
        """All of it. Raises: TenfoldError, OSError where a step fails, or too many calls do."""
        asked = self._asked
        self._sockets.add(self._apart.topology.groups)
        await self._fleet.prepare("before")
        await self._host_both(1.0 if asked.back else 0.0)
        if not asked.back:
            await self._turn(self._after, self._is_of_service)
        for share in SHARES:
            await self._watch(share)
        self._ending = True
        # Others are to call the module where it is to be, before it goes where they call it.
        await self._turn(self._after, self._is_of_others)
        if asked.back:
            await self._end_service()
        await self._turn(self._after, _is_web)
        self._tell(
            f"{asked.module} is hosted by the web processes."
            if asked.back
            else f"{asked.module} is a service of its own: {self._service}."
        )

    async def undo(self) -> str | None:
        """Go back from wherever it is. Returns: what people are to know if that failed, too."""
        self._tell("It goes back.")
        try:
            if self._asked.back:
                await self._turn(self._before, self._is_of_service)
                await self._fleet.divert(1.0, _ANSWER_S)
                await self._turn(self._before, self._is_of_others)
            else:
                if self._ending:
                    await self._host_both(1.0)
                await self._fleet.divert(0.0, _ANSWER_S)
                await self._turn(self._before, self._is_of_others)
                await self._end_service()
            await self._turn(self._before, _is_web)
            self._sockets.close_others(self._before.topology.groups)
        except (TenfoldError, OSError) as error:
            failed = (
                f"Not all processes could be replaced by such as there were before: {error} Calls "
                "are answered none the less. When that is mended, `tenfold restart` replaces them."
            )
            _log.error(failed)
            return failed
        return None

    def _is_of_service(self, planned: PlannedProcess) -> bool:
        return planned.service == self._service

    def _is_of_others(self, planned: PlannedProcess) -> bool:
        return bool(planned.service) and not self._is_of_service(planned)

    async def _host_both(self, share: float) -> None:
        """Let the web processes, and their workers, host what the service does too."""
        planned = decide_both(self._apart, self._service, share)
        await self._fleet.turn(self._apart, planned, self._tell)

    async def _turn(self, source: ProductFile, which: Callable[[PlannedProcess], bool]) -> None:
        """Let some be as they are to be by a file; those that are so already are left."""
        wanted = [
            planned
            for planned in source.topology.planned
            if which(planned) and not self._fleet.runs(planned, source)
        ]
        await self._fleet.turn(source, wanted, self._tell)

    async def _end_service(self) -> None:
        await self._fleet.end(set(self._fleet.names) - self._names, self._tell)

    async def _watch(self, new: float) -> None:
        """Let this part of the calls go the new way, and look at them for a while.

        Raises: SplitRolledBackError where too many fail, or the service ends by itself.
        """
        asked, loop = self._asked, asyncio.get_running_loop()
        share = 1.0 - new if asked.back else new
        await self._count(share)
        began, until = self._total, loop.time() + asked.step_s
        while True:
            await asyncio.sleep(max(0.0, min(_LOOK_S, until - loop.time())))
            await self._count(share)
            # A timer may ring a little early, and what is left then is not worth a look of its own.
            seen, over = self._total - began, loop.time() >= until - _EARLY_S
            fresh = side_of(seen, service=not asked.back)
            usual = side_of(seen, service=asked.back)
            if decide_verdict(fresh, usual, asked.most_faults, over=over):
                where = "in the web processes" if asked.back else f"at the service {self._service}"
                raise SplitRolledBackError(
                    f"{fresh.faults} of {fresh.calls} calls failed {where}; the log says why."
                )
            if not asked.back:
                self._check_service()
            if over:
                break
        self._tell(
            f"{share:.0%} of the calls of {asked.module} go to its service: {seen.service:,} there "
            f"({seen.service_faults:,} failed) and {seen.here:,} here ({seen.here_faults:,} failed)"
            f" in {asked.step_s:g} s."
        )

    async def _count(self, share: float) -> None:
        """Set the share in every process, and add up what they have counted since."""
        for pid, counts in (await self._fleet.divert(share, _ANSWER_S)).items():
            self._total += counts - self._counted.get(pid, SplitCounts())
            self._counted[pid] = counts

    def _check_service(self) -> None:
        for state in self._fleet.states:
            if state.name in self._names and (state.restarts or state.state != "ready"):
                raise SplitRolledBackError(f"{state.name} ended by itself; the log says why.")


def _is_web(planned: PlannedProcess) -> bool:
    """Whether it is a web process, or one of their workers."""
    return not planned.service


def _refuse_variables(source: ProductFile) -> None:
    """Refuse where something else than the file says who hosts what."""
    for keys, place in source.origins.named.items():
        if keys == ("processes", "modules") or (keys[0] == "services" and keys[-1] == "modules"):
            raise UserMistakeError(
                f"{place}: says who hosts which module, and the topology file is to. Nothing was "
                "done. Say it in the file, and start the product without it."
            )
