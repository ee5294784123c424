"""`tenfold queue`: see and mend background work."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from tenfold.cli.options import Data, Json, ProductFolder, TopologyName, at_desk, read_refs, source
from tenfold.cli.show import console, print_json, print_table, when
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.desk import Desk, EntrySummary, Replayed

__all__ = ["app"]

app = typer.Typer(help="See and mend background work.", no_args_is_help=True, rich_markup_mode=None)
Module = Annotated[str | None, typer.Option("--module", help="Only this module's.")]
Handler = Annotated[str | None, typer.Option("--handler", help="Only this job or subscription.")]
State = Annotated[str | None, typer.Option("--state", help="waiting, running or dead.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=500, help="At most so many.")]
Refs = Annotated[list[str] | None, typer.Argument(metavar="MODULE:NUMBER...")]
AllDead = Annotated[bool, typer.Option("--all-dead", help="All dead letters that match.")]
_PAGE = 500
_PACE_S = 0.25
"""For each further page of entries that wait."""
_LONGEST_PAUSE_S = 2.0
_WHICH = {
    "retried": "only a dead letter can",
    "discarded": "only one that waits or is dead can",
    "cancelled": "only one that is running can",
}


@app.command("counts")
def counts(
    module: Module = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """How many entries there are, by handler and state."""
    found = at_desk(
        source(product, topology, data), "queue counts", lambda desk: desk.queue_counts(module)
    )
    if json:
        print_json(found)
        return
    print_table(
        ["module", "handler", "waiting", "running", "dead"],
        [(c.module, c.handler, c.waiting, c.running, c.dead) for c in found],
        numbers=["waiting", "running", "dead"],
    )


@app.command("list")
def list_entries(
    module: Module = None,
    state: State = None,
    handler: Handler = None,
    limit: Limit = 50,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """The entries of the queues, oldest first."""
    if state not in (None, "waiting", "running", "dead"):
        raise UserMistakeError(f"There is no state {state!r}. Say waiting, running or dead.")
    found = at_desk(
        source(product, topology, data),
        "queue list",
        lambda desk: desk.queue_entries(module, state, handler, limit),
    )
    _print(found, json)


@app.command("dead")
def dead(
    module: Module = None,
    handler: Handler = None,
    limit: Limit = 50,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """The dead letters: what failed too often."""
    found = at_desk(
        source(product, topology, data),
        "queue dead",
        lambda desk: desk.queue_entries(module, "dead", handler, limit),
    )
    _print(found, json)


@app.command("show")
def show(
    ref: Annotated[str, typer.Argument(metavar="MODULE:NUMBER")],
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """One entry, with what it carries and its last error."""
    ((module, (number,)),) = read_refs([ref]).items()
    entry = at_desk(
        source(product, topology, data),
        "queue show",
        lambda desk: desk.queue_entry(module, number),
    )
    if json:
        print_json(entry)
        return
    print_table(
        ["entry", entry.ref],
        [
            ("handler", entry.handler),
            ("state", entry.state),
            ("attempts", entry.attempts),
            ("runs at", when(entry.run_at)),
            ("priority", entry.priority),
            ("lane", entry.lane),
            ("message", entry.message_id),
            ("tenant", entry.tenant),
            ("last error", entry.last_error),
        ],
    )
    console().print(entry.message, markup=False)


@app.command("retry")
def retry(
    refs: Refs = None,
    all_dead: AllDead = False,
    module: Module = None,
    handler: Handler = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Let dead letters run again, with no attempts counted."""

    async def work(desk: Desk) -> int:
        return await _each(desk, refs, all_dead, module, handler, "queue_retry")

    _tell("retried", at_desk(source(product, topology, data), "queue retry", work), json, refs)


@app.command("discard")
def discard(
    refs: Refs = None,
    all_dead: AllDead = False,
    module: Module = None,
    handler: Handler = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Remove entries that wait or are dead; they will never run."""

    async def work(desk: Desk) -> int:
        return await _each(desk, refs, all_dead, module, handler, "queue_discard")

    _tell("discarded", at_desk(source(product, topology, data), "queue discard", work), json, refs)


@app.command("cancel")
def cancel(
    refs: Annotated[list[str], typer.Argument(metavar="MODULE:NUMBER...")],
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Interrupt entries that are running; they become dead letters."""

    async def work(desk: Desk) -> int:
        return await _each(desk, refs, False, None, None, "queue_cancel")

    _tell("cancelled", at_desk(source(product, topology, data), "queue cancel", work), json, refs)


@app.command("replay")
def replay(
    subscription: Annotated[str, typer.Argument(metavar="MODULE.HANDLER")],
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Events after this position.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option("--since", help="Events from this moment on (UTC), such as 2026-11-28T09:30."),
    ] = None,
    upto: Annotated[
        int | None, typer.Option("--upto", min=0, help="None after this position.")
    ] = None,
    run: Annotated[
        int | None, typer.Option("--run", min=2, help="Go on with a replay that was broken off.")
    ] = None,
    json: Json = False,
    product: ProductFolder = None,
    topology: TopologyName = None,
    data: Data = None,
) -> None:
    """Give past events to one subscription again, all that are kept or some of them."""
    module, dot, handler = subscription.partition(".")
    if not dot or not handler:
        raise UserMistakeError(
            f"{subscription!r} names no subscription. Write it as `module.handler`, as "
            "`tenfold queue counts` prints them."
        )
    if after is not None and since is not None:
        raise UserMistakeError("Say --after or --since; one of them.")
    moment = None if since is None else since.replace(tzinfo=since.tzinfo or UTC)

    async def work(desk: Desk) -> tuple[Replayed, int]:
        bite = await desk.queue_replay(module, handler, after, moment, upto, run)
        added, pause_s = bite.added, 0.0
        try:
            while not bite.ended:
                await asyncio.sleep(pause_s)
                before = bite.waiting
                bite = await desk.queue_replay(
                    module, handler, bite.position, None, bite.upto, bite.run
                )
                added += bite.added
                pause_s = decide_pause_s(before, bite)
        except BaseException:
            print(
                f"Broken off after {added} events. To go on: tenfold queue replay {subscription} "
                f"--after {bite.position} --upto {bite.upto} --run {bite.run}",
                file=sys.stderr,
            )
            raise
        return bite, added

    bite, added = at_desk(source(product, topology, data), "queue replay", work)
    if json:
        print_json({"run": bite.run, "added": added, "upto": bite.upto})
    else:
        print(f"{added} events up to {bite.upto} are queued for {subscription} (run {bite.run}).")


def decide_pause_s(before: int, bite: Replayed) -> float:
    """How long to wait until more of the past is queued, behind which all that is new would wait.

    Args:
        before: how much waited after the bite before.

    Returns: 0 where nothing of it has been worked meanwhile: the product is stopped, and
        waiting for it would not end.
    """
    worked = before + bite.added - bite.waiting
    if worked <= 0:
        return 0.0
    return min(_PACE_S * max(bite.waiting - _PAGE, 0) / _PAGE, _LONGEST_PAUSE_S)


async def _each(
    desk: Desk,
    refs: list[str] | None,
    all_dead: bool,
    module: str | None,
    handler: str | None,
    operation: str,
) -> int:
    act: Callable[[str, list[int]], Awaitable[int]] = getattr(desk, operation)
    if bool(refs) == all_dead:
        raise UserMistakeError("Name entries as `module:number`, or say --all-dead; one of them.")
    if refs:
        return sum([await act(name, ids) for name, ids in read_refs(refs).items()])
    done = 0
    while True:
        found = await desk.queue_entries(module, "dead", handler, _PAGE)
        by_module: dict[str, list[int]] = {}
        for entry in found:
            by_module.setdefault(entry.module, []).append(entry.id)
        moved = sum([await act(name, ids) for name, ids in by_module.items()])
        done += moved
        if moved == 0 or len(found) < _PAGE:
            return done


def _print(entries: list[EntrySummary], json: bool) -> None:
    if json:
        print_json(entries)
        return
    print_table(
        ["entry", "handler", "state", "attempts", "runs at", "last error"],
        [
            (e.ref, e.handler, e.state, e.attempts, when(e.run_at), _short(e.last_error))
            for e in entries
        ],
        numbers=["attempts"],
    )


def _short(error: str | None) -> str | None:
    if error is None:
        return None
    line = error.strip().splitlines()[0] if error.strip() else ""
    return line if len(line) <= 80 else f"{line[:79]}…"


def _tell(what: str, count: int, json: bool, refs: list[str] | None) -> None:
    if json:
        print_json({what: count})
    else:
        print(f"{count} {what}.")
    if refs and count == 0:
        print(f"No entry that was named could be {what}: {_WHICH[what]}.", file=sys.stderr)
        raise typer.Exit(1)
