"""A supervisor as a process of its own, with processes that tests strike."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.faults.store_process import free_port

__all__ = ["APP", "Supervised", "alive"]

ROOT = Path(__file__).parents[2]
_WITHIN_S = 60.0
_FILE = """
name = "plain"

[modules]
none = "none:None"

[topologies.growth]
data = "data"

[topologies.growth.http]
port = {port}
keep_alive_s = {keep_alive_s}
drain_s = {drain_s}

[topologies.growth.database]
url = "postgresql://nobody@127.0.0.1:1/nothing"

[topologies.growth.processes]
web = {web}
workers = {workers}
restart_max_s = 2.0
start_timeout_s = {start_timeout_s}
hung_s = {hung_s}
"""
_BALANCED = """
[topologies.growth.balancer]
servers = ["127.0.0.1:1", "127.0.0.1:2"]
check_s = 0.3
"""
APP = """
import asyncio, os, sys

VERSION = "{version}"


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({{"type": kind + ".complete"}})
            if kind.endswith("shutdown"):
                return
    path = scope["path"]
    if path == "/crash":
        os._exit(3)
    if path == "/print":
        print("said by", os.getpid())
        print("complained", file=sys.stderr)
    while (await receive()).get("more_body"):
        pass
    if path.startswith("/slow/"):
        await asyncio.sleep(float(path.removeprefix("/slow/")))
    body = (VERSION if path == "/" else f"{{VERSION}} {{os.getpid()}}").encode()
    if path == "/headers":
        body = b"".join(name + b": " + value + b"\\n" for name, value in scope["headers"])
    headers = [(b"content-length", b"%d" % len(body))]
    if path == "/stream":
        headers = []
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    draining = scope["state"]["tenfold.draining"]
    while path == "/stream" and not draining():
        await send({{"type": "http.response.body", "body": b".", "more_body": True}})
        await asyncio.sleep(0.02)
    await send({{"type": "http.response.body", "body": body}})
"""
"""What the processes serve; `version` is what it answers with."""


class Supervised:
    """One life of a supervisor on a folder.

    Args:
        settings: values for the topology file.
        app: the code that its processes serve.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, float] | None = None, *, app: str | None = None
    ) -> None:
        self.folder = folder
        self.settings = {
            "port": free_port(),
            "web": 2,
            "workers": 1,
            "keep_alive_s": 3.0,
            "drain_s": 8.0,
            "start_timeout_s": 40.0,
            "hung_s": 30.0,
            **(settings or {}),
        }
        self.port = int(self.settings["port"])
        self.data = folder / "data"
        self.file = folder / "tenfold.toml"
        self.app = folder / "app.py"
        self.log = folder / "log"
        self.write()
        self.deploy(app if app is not None else APP.format(version="1"))
        self.start()

    def write(self, **settings: float) -> None:
        """Write the topology file, with other values if any are given."""
        text = _FILE.format(**{**self.settings, **settings})
        self.file.write_text(text + (_BALANCED if self.settings.get("balanced") else ""))

    def deploy(self, app: str) -> None:
        """Put other code on the disk, at once."""
        partial = self.app.with_suffix(".partial")
        partial.write_text(app)
        partial.rename(self.app)

    def start(self) -> None:
        """Start it anew."""
        self._begins_at = self.log.stat().st_size if self.log.exists() else 0
        parent = [sys.executable, "-m", "tests.faults.plain_parent"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*parent, str(self.file), str(self.app)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )

    def await_said(self, text: str, within_s: float = _WITHIN_S) -> None:
        """Return when the log has a text."""
        until = time.monotonic() + within_s
        while text not in self.said():
            ended = self.process.poll() is not None
            if text in self.said():
                return
            assert not ended, f"it ended:\n{self.said()}"
            assert time.monotonic() < until, f"not said in time: {text}\n{self.said()}"
            time.sleep(0.02)

    def await_ready(self) -> Supervised:
        """Return when everything runs."""
        self.await_said("Ctrl-C drains and stops.")
        return self

    def said(self) -> str:
        """The log of this life."""
        return self.log.read_bytes()[self._begins_at :].decode(errors="replace")

    def get(self, path: str) -> str:
        """The body of an answer. Raises OSError."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=_WITHIN_S) as reply:
            body: bytes = reply.read()
            return body.decode()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `tenfold` command on it."""
        return subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; from tenfold.cli.entry import main; sys.exit(main())",
                *arguments,
                "--product",
                str(self.folder),
                "--topology",
                "growth",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def pids(self) -> dict[str, int]:
        """The process ids by name, as the supervisor knows them."""
        done = self.command("processes", "--json")
        assert done.returncode == 0, done.stderr
        return {row["name"]: row["pid"] for row in msgspec.json.decode(done.stdout)}

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, within_s: float = _WITHIN_S) -> int:
        """Signal, and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(within_s)

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def alive(pid: int) -> bool:
    """Whether a process that is not our child lives, and is not only waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
