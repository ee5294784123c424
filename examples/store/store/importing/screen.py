"""What people see of an import: a bar while it runs, a table at its end, and what is left over."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from store.importing.intake import Intake
from store.importing.lines import Reason
from store.importing.recording import Progress
from store.importing.settling import Settled
from tenfold import TenfoldError

__all__ = ["Screen", "counted"]

_MEANINGS = {
    Reason.CANCELLED: "the invoice was cancelled",
    Reason.NO_DESCRIPTION: "there is no description",
    Reason.BAD_QUANTITY: "the quantity is not a whole number above zero",
    Reason.BAD_PRICE: "the price is not above zero",
    Reason.NO_CUSTOMER: "there is no customer",
    Reason.UNREADABLE: "it cannot be read as a line of these columns",
}


class Screen:
    """Writes progress to the standard error stream, where that is a terminal; results go out."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._err = Console(stderr=True)
        self._bars: Bars | None = None
        self._recording = self._settling = TaskID(0)
        self._began = time.monotonic()

    @contextmanager
    def live(self) -> Generator[None, None, None]:
        """Show bars inside of this; nothing where nobody looks."""
        if not self._err.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=self._err) as bars:
            self._bars = bars
            total = self._progress.total
            self._recording = bars.add_task("Recording orders", total=total, note="")
            self._settling = bars.add_task("Settling them", total=total, start=False, note="")
            self._progress.changed = self._recorded
            yield
            bars.update(self._settling, completed=total, note="")

    def settling(self, still_open: int) -> None:
        """Show how many orders are still open."""
        if self._bars is not None:
            done = max(0, self._progress.total - still_open)
            self._bars.start_task(self._settling)
            self._bars.update(self._settling, completed=done, note=f"{still_open:,} open")

    def table(self, intake: Intake, seconds: float, refused: Path) -> None:
        """Print what was taken and what was not."""
        share = intake.lines or 1
        table = Table(title="What was taken, and what was not", title_justify="left")
        table.add_column("Lines")
        table.add_column("Number", justify="right")
        table.add_column("Share", justify="right")
        table.add_column("Why")

        def row(name: str, count: int, why: str, style: str = "") -> None:
            table.add_row(name, f"{count:,}", f"{count / share:.1%}", why, style=style)

        row("taken", intake.taken, f"became {counted(len(intake.invoices), 'order')}", "green")
        for reason, why in _MEANINGS.items():
            row(reason.value, intake.refused[reason.value], why)
        table.add_section()
        row("all", intake.lines, "")
        out = Console()
        out.print(table)
        orders, rate = self._progress.total, self._progress.total / max(seconds, 1e-9)
        old = orders - self._progress.new
        lines_rate = rate * intake.taken / (orders or 1)
        _say(
            out,
            f"{counted(orders, 'order')} ({old:,} recorded before), settled with all that "
            f"followed, in {seconds:,.1f} s: {counted(round(rate), 'order')} and "
            f"{counted(round(lines_rate), 'line')} a second.",
        )
        # A path is never broken over lines, so that it can be copied.
        out.print(f"Refused lines are in {refused}", highlight=False, soft_wrap=True)

    def nothing_left_over(self, intake: Intake, settled: Settled) -> bool:
        """Say what an owner has to look at; True where there is nothing."""
        if intake.damage:
            self._warn(
                f"The file is damaged: {intake.damage}. What came before was taken, but for the "
                "invoice that it broke off in. Fetch the file again and import it: nothing will "
                "be done twice."
            )
        if settled.open:
            self._warn(
                f"{counted(settled.open, 'order')} of the store "
                f"{'is' if settled.open == 1 else 'are'} neither confirmed nor rejected. "
                "`tenfold queue dead` shows the work that failed."
            )
        if settled.dead:
            self._warn(
                f"{counted(settled.dead, 'piece')} of background work "
                f"{'was' if settled.dead == 1 else 'were'} given up after all attempts. "
                "`tenfold queue dead` shows what failed, `tenfold queue retry` runs it again."
            )
        return not (intake.damage or settled.open or settled.dead)

    def interrupted(self) -> None:
        """Say how far it came and how to go on."""
        self._warn(f"Interrupted: {self._how_far()}")

    def broken_off(self, error: TenfoldError) -> None:
        """Say why it ended before it was through, how far it came and how to go on."""
        # What the error itself advises is for those who call the store's API.
        why = (
            "The store was stopped, or ended, while it was being written to"
            if error.code == "call.lost"
            else str(error).rstrip(".")
        )
        self._warn(f"{why}: {self._how_far()}")

    def _how_far(self) -> str:
        orders = counted(self._progress.total, "order")
        return (
            f"{self._progress.recorded:,} of {orders} are recorded, and stay so. Run the same "
            "command again to go on; nothing will be done twice."
        )

    def _recorded(self) -> None:
        if self._bars is not None:
            done = self._progress.recorded
            rate = done / max(time.monotonic() - self._began, 1e-9)
            self._bars.update(self._recording, completed=done, note=f"{rate:,.0f} a second")

    def _warn(self, text: str) -> None:
        _say(self._err, text, "yellow")


def counted(number: int, thing: str) -> str:
    """A number of things, as people say it: `1 order`, `1,200 orders`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _say(console: Console, text: str, style: str = "") -> None:
    """A sentence, broken between words on a terminal; one line where a program reads it."""
    console.print(text, style=style, highlight=False, soft_wrap=not console.is_terminal)
