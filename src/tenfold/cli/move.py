"""`tenfold move`: a product's data from one topology to another, while it runs."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import termios
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tenfold.cli.options import Data, Json, ProductFolder, source
from tenfold.cli.show import print_json
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.moving.errors import MoveRefusedError
from tenfold.runtimes.topology import import_product

if TYPE_CHECKING:
    from tenfold.runtimes.moving.move import Moved

__all__ = ["move"]


def move(
    from_: Annotated[
        str, typer.Option("--from", metavar="NAME", help="The topology that has the data.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="NAME", help="The topology that is to have it.")
    ],
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Do all but the last step: the source goes on."),
    ] = False,
    most_pause: Annotated[
        float,
        typer.Option("--most-pause", metavar="SECONDS", help="How long writes may be held."),
    ] = 4.5,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Switch over only when Enter is pressed; follow until then."),
    ] = False,
    json: Json = False,
    product: ProductFolder = None,
    data: Data = None,
) -> None:
    """Move a product's data from SQLite to PostgreSQL, running or not.

    It can be interrupted and run again. The source is left as it was; where it
    runs, it is stopped once the target is complete. With --wait that is when you
    say so, so that what is started on the target can be ready before.
    """
    from tenfold.runtimes.moving.move import MovePlan
    from tenfold.runtimes.moving.move import move as go
    from tenfold.runtimes.resources import with_resources

    left = import_product(source(product, from_, data))
    right = import_product(source(product, to, data))
    if left.topology.shared or not right.topology.shared:
        raise UserMistakeError(
            f"A move goes from a topology on SQLite to one on PostgreSQL; {from_!r} and {to!r} "
            "are not that. Nothing was done."
        )
    if wait:
        _refuse_silence()

    def say(text: str) -> None:
        if not json:
            print(text, flush=True)

    with with_resources(right) as placed:
        plan = MovePlan(source=left, target=placed, most_pause_s=most_pause, rehearsal=rehearse)
        try:
            moved = asyncio.run(go(plan, say, _enter if wait else None))
        except KeyboardInterrupt:
            print("Interrupted. What was copied stays: run it again to go on.", file=sys.stderr)
            raise typer.Exit(130) from None
    if json:
        print_json(msgspec.to_builtins(moved))
    else:
        _tell(moved, to)


def _refuse_silence() -> None:
    """Raise UserMistakeError where nobody could send a line."""
    if not _could_speak():
        raise UserMistakeError(
            "--wait takes the word to switch over from standard input, which is neither a terminal "
            "nor a pipe here. Nothing was done. Run it where a line can be sent to it."
        )


def _could_speak() -> bool:
    if sys.stdin is None:  # closed before Python began
        return False
    mode = os.fstat(sys.stdin.fileno()).st_mode
    return sys.stdin.isatty() or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


async def _enter() -> None:
    """Return when a line has come on standard input. Leaves no thread that waits for one.

    What was typed before it is asked for is no answer. Through a pipe it is, since a program
    that sends a line means it whenever it comes.

    Raises: MoveRefusedError where it ended instead: whoever was to say so has gone.
    """
    if sys.stdin.isatty():
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    print("Press Enter to switch over.", file=sys.stderr, flush=True)
    loop, come, fd = asyncio.get_running_loop(), asyncio.Event(), sys.stdin.fileno()
    loop.add_reader(fd, come.set)
    try:
        await come.wait()
    finally:
        loop.remove_reader(fd)
    if not os.read(fd, 4_096):
        raise MoveRefusedError(
            "Standard input ended before a line said to switch over. Nothing was switched over, "
            "and what was copied stays. Run the move again, with --wait or without."
        )


def _tell(moved: Moved, to: str) -> None:
    """Print what was moved, for people."""
    for each in moved.tables:
        if each.rows:
            print(f"{each.module}.{each.table}: {each.rows:,} rows, sum {each.checksum}, the same")
    print(
        f"{moved.rows:,} rows copied and {moved.changed:,} writes followed in "
        f"{moved.seconds:.1f} s; writes were held for {moved.pause_s:.2f} s."
    )
    if moved.rehearsal:
        print("A rehearsal: the source goes on. Move without --rehearse to switch over.")
    else:
        print(f"Start it with `tenfold run --topology {to}`.")
