"""A small product in a folder, and commands run on it as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOML = """\
name = "pad"
seed = "padkit.module:seed"

[modules]
notes = "padkit.module:NotesModule"

[mounts]
"/" = "padkit.module:build"

[topologies.prototype.http]
port = 0
max_header_bytes = 4096
header_timeout_s = 1
"""
CONTRACT = '''\
"""Notes."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, Event, command, query


class Noted(Event):
    text: str


class Notes(Contract, Protocol):
    """Notes."""

    @command("POST /v1/notes", who="operator")
    async def note(self, text: str) -> str:
        """Take a note."""
        ...

    @query("GET /v1/notes", who="anyone", projections=["seen"])
    async def count(self) -> int:
        """How many notes there are."""
        ...
'''
MODULE = '''\
"""Notes."""

from __future__ import annotations

import asyncio
from typing import ClassVar, final

from padkit.contract import Noted, Notes
from sqlalchemy import Column, Integer, Table, Text, func, insert, select

from tenfold import Database, Projection, job, publish, subscribe
from tenfold.tables.columns import metadata, tenant

METADATA = metadata()
SEEN = Table("seen", METADATA, tenant(), Column("text", Text, primary_key=True))
ADD = insert(SEEN)
COUNT = select(func.count()).select_from(SEEN)


class Seen(Projection):
    """The notes."""

    name = "seen"
    tables: ClassVar = (SEEN,)
    db: Database

    @subscribe
    async def noted(self, event: Noted) -> None:
        await self.db.execute(ADD, text=event.text)

    async def count(self) -> int:
        return int(await self.db.value(COUNT))


@final
class NotesModule(Notes):
    """Notes."""

    seen: Seen

    async def note(self, text: str) -> str:
        publish(Noted(text=text))
        if text.startswith("bad"):
            self.fail.enqueue(text)
        return text

    async def count(self) -> int:
        return await self.seen.count()

    @subscribe
    async def heard(self, event: Noted) -> None:
        """Nothing is to be done."""

    @job(attempts=1)
    async def fail(self, text: str) -> None:
        raise ValueError(f"{text} cannot be done")


async def seed(notes: Notes) -> None:
    await notes.note("seeded")


def build(notes: Notes):
    async def site(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for_ever = scope["type"] == "http" and scope["path"] == "/for-ever"
        await send({"type": "http.response.body", "body": b"pad", "more_body": for_ever})
        while for_ever:
            await asyncio.sleep(60)

    return site
'''


class Pad:
    """The product's folder, and the commands on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PORT", "HOST") and not name.startswith("TENFOLD_")
        } | {"TENFOLD_DATA": str(self.data), "PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"}

    def __call__(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            self._line(arguments),
            cwd=self.root,
            env=self._environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """What a command says to a program."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str) -> Started:
        """`tenfold run`, until it is ready."""
        process = subprocess.Popen(
            self._line(("run", *arguments)),
            cwd=self.root,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Started(process)

    def change(self, old: str, new: str, file: str = "tenfold.toml") -> None:
        """Change one of the product's files."""
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def _line(self, arguments: tuple[str, ...]) -> list[str]:
        code = "import sys; from tenfold.cli.entry import main; sys.exit(main())"
        return [sys.executable, "-c", code, *arguments]


class Started:
    """A server that is ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.greeting = ""
        for line in process.stdout:
            self.greeting += line
            if line.startswith("Ctrl-C"):
                break
        opened = [line for line in self.greeting.splitlines() if line.startswith("  open")]
        if not opened:
            assert process.stderr is not None
            raise AssertionError(f"It did not start: {process.stderr.read()}")
        self.url = opened[0].split()[1].rstrip("/")
        self.port = int(self.url.rpartition(":")[2])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.fixture
def pad(tmp_path: Path) -> Pad:
    package = tmp_path / "padkit"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "contract.py").write_text(CONTRACT)
    (package / "module.py").write_text(MODULE)
    (tmp_path / "tenfold.toml").write_text(TOML)
    return Pad(tmp_path)


@pytest.fixture
def served(pad: Pad) -> Iterator[Started]:
    started = pad.start()
    yield started
    if started.process.poll() is None:
        started.process.kill()
        started.process.communicate()
