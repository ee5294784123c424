"""`store import`: one file from its first byte to the last settled order, and what people see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from store.catalog.contract import Catalog
from store.importing.intake import Intake, Refuse, take_in
from store.importing.lines import NotSuchAFileError
from store.importing.reading import open_bytes, read_records
from store.importing.recording import Modules, Progress, record
from store.importing.refused import RefusedFile, draft_of, place_for_refused
from store.importing.screen import Screen
from store.importing.settling import Settled, settle
from store.inventory.contract import Inventory
from store.orders.contract import Orders
from tenfold import Struct, TenfoldError
from tenfold.runtimes.connect import connect_product
from tenfold.runtimes.topology import Product

__all__ = ["Order", "run_import"]

DONE, UNFINISHED, INTERRUPTED = 0, 1, 130


class Order(Struct):
    """What `store import` was asked to do. `refused` is where refused lines go, if said."""

    file: Path
    as_json: bool = False
    refused: Path | None = None


class _Summary(Struct):
    """What `--json` prints, for programs."""

    lines: int
    taken: int
    refused: dict[str, int]
    orders: int
    seconds: float


def run_import(product: Callable[[], Product], order: Order) -> int:
    """Import a file into a product's data and tell people how it went.

    Args:
        product: loads the product; called when the file was found to be one.
    Returns: the exit code: 0 done, 1 something is left over, 130 interrupted.
    Raises: NotSuchAFileError; TenfoldError where the store could not be reached.
    """
    started = time.monotonic()
    intake, refused_path = _read(order)
    progress = Progress(total=len(intake.invoices))
    screen = Screen(progress)
    try:
        settled = asyncio.run(_carry(product(), intake, progress, screen))
    except KeyboardInterrupt:
        screen.interrupted()
        return INTERRUPTED
    except TenfoldError as error:
        if not progress.begun:
            raise
        screen.broken_off(error)
        return UNFINISHED
    summary = _Summary(
        lines=intake.lines,
        taken=intake.taken,
        refused=intake.refused,
        orders=len(intake.invoices),
        seconds=round(time.monotonic() - started, 3),
    )
    if order.as_json:
        print(msgspec.json.encode(summary).decode())
    else:
        screen.table(intake, summary.seconds, refused_path)
    return DONE if screen.nothing_left_over(intake, settled) else UNFINISHED


def _read(order: Order) -> tuple[Intake, Path]:
    """Read the whole file, and write what is refused of it."""
    try:
        stream = open_bytes(order.file)
        path = order.refused or place_for_refused(order.file)
    except OSError as error:
        raise NotSuchAFileError(f"It cannot be opened: {error.strerror}.") from error
    with stream, _refused_file(path, order.file) as refused:

        def begin(header: list[str]) -> Refuse:
            refused.begin(header)
            return refused.write

        intake = take_in(read_records(stream), begin)
    return intake, path


def _refused_file(path: Path, source: Path) -> RefusedFile:
    if _one_file(path, source) or _one_file(draft_of(path), source):
        raise NotSuchAFileError(
            f"Its refused lines would be written over it, to {path}. Name another place with "
            "--refused."
        )
    try:
        return RefusedFile(path)
    except BlockingIOError as error:
        raise NotSuchAFileError(
            f"Its refused lines cannot be written to {path}, since another import is writing "
            "there. Wait until that one has read its file, or name another place with --refused."
        ) from error
    except OSError as error:
        raise NotSuchAFileError(
            f"Its refused lines cannot be written to {path}: {error.strerror}. Name another "
            "place with --refused."
        ) from error


def _one_file(path: Path, source: Path) -> bool:
    """Whether two paths, or the links that stand there, lead to the same file."""
    try:
        return path.samefile(source)
    except OSError:  # nothing is there yet
        return False


async def _carry(product: Product, intake: Intake, progress: Progress, screen: Screen) -> Settled:
    async with connect_product(product, command="store import") as connection:
        modules = Modules(
            catalog=connection.proxy(Catalog),
            inventory=connection.proxy(Inventory),
            orders=connection.proxy(Orders),
        )
        progress.begun = True
        with screen.live():
            await record(modules, intake, progress)
            return await settle(modules.orders, connection.desk, screen.settling)
