"""The topology file with a module hosted elsewhere; what people wrote around it stays.

Whoever changes no file does without this one, and without the library that it needs.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import Array, Comment, Item, Null, Table, Whitespace

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.splits.plan import Hosting

__all__ = ["edit_hosting", "written_beside"]


def edit_hosting(text: str, hosting: Hosting) -> str:
    """A topology file's text with this hosting, and all else as it is.

    A comment before the table that follows stays there.

    Raises: UserMistakeError where the tables of the topology do not stand together.
    """
    document = tomlkit.parse(text)
    topology = _below(document, "topologies", hosting.topology)
    if hosting.modules:
        processes = _below(topology, "processes")
        rest = _take_rest(processes)
        processes["modules"] = _array(hosting.modules)
        _give_rest(processes, rest)
    elif "modules" in topology.get("processes", {}):
        topology["processes"].remove("modules")
    tables = list(_tables(topology))
    if hosting.hosts:
        service = tomlkit.table()
        service["modules"] = _array(hosting.hosts)
        service["replicas"] = hosting.replicas
        if hosting.workers:
            service["workers"] = hosting.workers
        rest = _take_rest(tables[-1]) if tables else []
        if tables:
            tables[-1].add(tomlkit.nl())
        _below(topology, "services")[hosting.service] = service
        _give_rest(service, rest)
    else:
        services = _below(topology, "services")
        service = _below(services, hosting.service)
        number = next(n for n, table in enumerate(tables) if table is service)
        rest = _take_rest(service)
        services.remove(hosting.service)
        if not services:
            topology.remove("services")
        if number:
            _take_rest(tables[number - 1])
            _give_rest(tables[number - 1], rest)
    return tomlkit.dumps(document)


def _below(table: Any, *names: str) -> Any:
    for name in names:
        if name not in table:
            table[name] = tomlkit.table(is_super_table=name in ("topologies", "services"))
        table = table[name]
        if not isinstance(table, Table):
            raise UserMistakeError(
                f"The tables below `{name}` do not stand together in the topology file, or are "
                "written in one line, so that it cannot be changed here. Nothing was done. Put "
                "them together, as [topologies.NAME.…]."
            )
    return table


def _tables(table: Table) -> Iterator[Table]:
    """A table that is written out, and those below it, in the order of the file."""
    if not table.is_super_table():
        yield table
    for _, item in table.value.body:
        if isinstance(item, Table):
            yield from _tables(item)


def _take_rest(table: Table) -> list[Item]:
    """Take the comments and blank lines at a table's end: they are of what follows."""
    body, rest = table.value.body, []
    while body and isinstance(body[-1][1], Comment | Whitespace | Null):
        rest.append(body.pop()[1])
    return rest[::-1]


def _give_rest(table: Table, rest: list[Item]) -> None:
    for item in rest:
        table.value.append(None, item)


def _array(names: Sequence[str]) -> Array:
    found = tomlkit.array()
    found.extend(names)
    return found


@contextmanager
def written_beside(file: Path, text: str) -> Iterator[Path]:
    """A file with this text in the same folder, so that what it names is found, for a while.

    Raises: UserMistakeError where nothing can be written there.
    """
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{file.stem}.split-", suffix=".toml", dir=file.parent
        )
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:
        raise UserMistakeError(
            f"The folder of {file} cannot be written to: {error.strerror}. Nothing was done, since "
            "the file is to say in the end who hosts the module. Where it comes from elsewhere, "
            "change it there, and start the product anew."
        ) from error
    path = Path(name)
    try:
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
