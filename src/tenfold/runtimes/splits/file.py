"""The topology file with a module hosted elsewhere; what people wrote around it stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomlkit

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct

__all__ = ["Hosting", "edit_hosting", "replace_file", "written_beside"]


class Hosting(Struct):
    """Who is to host what: the web processes, and one service or none any more of that name.

    `modules` of the web processes are empty where they host all.
    """

    topology: str
    modules: tuple[str, ...]
    service: str
    hosts: tuple[str, ...] = ()
    replicas: int = 1
    workers: int = 0


def edit_hosting(text: str, hosting: Hosting) -> str:
    """A topology file's text with this hosting, and all else as it is."""
    document = tomlkit.parse(text)
    table = _below(document, "topologies", hosting.topology)
    if hosting.hosts:
        service = tomlkit.table()
        service["modules"] = _array(hosting.hosts)
        service["replicas"] = hosting.replicas
        if hosting.workers:
            service["workers"] = hosting.workers
        _below(table, "services")[hosting.service] = service
    else:
        services = table.get("services", {})
        services.pop(hosting.service, None)
        if not services:
            table.pop("services", None)
    if hosting.modules:
        _below(table, "processes")["modules"] = _array(hosting.modules)
    else:
        table.get("processes", {}).pop("modules", None)
    return tomlkit.dumps(document)


def _below(table: Any, *names: str) -> Any:
    for name in names:
        if name not in table:
            table[name] = tomlkit.table(is_super_table=name in ("topologies", "services"))
        table = table[name]
    return table


def _array(names: Sequence[str]) -> Any:
    found = tomlkit.array()
    found.extend(names)
    return found


@contextmanager
def written_beside(file: Path, text: str) -> Iterator[Path]:
    """A file with this text in the same folder, so that what it names is found, for a while.

    Raises: UserMistakeError where nothing can be written there.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.stem}.", suffix=".toml", dir=file.parent)
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


def replace_file(file: Path, text: str) -> None:
    """Let a file have this text, at once and durably, with the rights that it has. Raises: OSError.

    Where it is a link, what it points to is replaced.
    """
    target = file.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}.", suffix=".toml", dir=target.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
