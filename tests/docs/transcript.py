"""Does what a page of the docs says: writes its files, runs its commands, compares what they print.

A page marks its blocks with comments that readers do not see. `<!-- file: NAME -->`
writes the block that follows; `<!-- replace: NAME -->` and `<!-- with -->` change
a file; `<!-- serve -->` starts a server, which `<!-- stop -->` interrupts;
`<!-- not run -->` leaves one console block out. Every other console block is
run. In what a command prints, `…` stands for anything on its line, and a line of
nothing else for any lines. The port 8000 and files in `/tmp/` are others here.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

__all__ = ["Transcript"]

_STEP = re.compile(
    r"<!-- (?P<mark>file|replace|with|serve|stop|not run)(?:: (?P<name>\S+))? -->"
    r"|^```(?P<language>\w+)\n(?P<block>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ASSIGNED = re.compile(r"(?P<name>[A-Z_]+)=")
_PORT = 8000


class Transcript:
    """One page, played in one folder."""

    def __init__(
        self, page: Path, folder: Path, tools: Path, environ: dict[str, str] | None = None
    ) -> None:
        self._page = page
        self._cwd = folder
        self._root = folder
        self._port = _free_port()
        self._server: _Server | None = None
        _make_tools(tools)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TENFOLD_", "PYTEST_"))}
        self._environ = {
            **kept,
            "PATH": os.pathsep.join([str(tools), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PORT": str(self._port),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "COLUMNS": "120",
            **(environ or {}),
        }

    def serve(self, command: str) -> str:
        """Start a server that the page takes for granted; returns what it says."""
        self._server = _Server(command, self._cwd, self._environ, self._port)
        return self._server.greeting

    def play(self) -> int:
        """Do all of it; returns how many commands were run."""
        mark, name, replaced, ran = "", "", ("", ""), 0
        try:
            for step in _STEP.finditer(self._page.read_text(encoding="utf-8")):
                if step["mark"] == "stop":
                    self._stop()
                elif step["mark"]:
                    mark, name = step["mark"], step["name"] or name
                elif mark == "file":
                    self._write(name, step["block"])
                    mark = ""
                elif mark == "replace":
                    replaced, mark = (name, step["block"]), ""
                elif mark == "with":
                    self._replace(*replaced, step["block"])
                    mark = ""
                elif mark == "not run":
                    mark = ""
                elif step["language"] == "console":
                    ran += self._console(step["block"], serve=mark == "serve")
                    mark = ""
        finally:
            self._stop()
        return ran

    def _write(self, name: str, text: str) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _replace(self, name: str, old: str, new: str) -> None:
        path = self._root / name
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{name} has {text.count(old)} times:\n{old}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def _console(self, block: str, *, serve: bool) -> int:
        commands: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append((line[2:], []))
            else:
                commands[-1][1].append(line)
        for command, expected in commands:
            if serve:
                self._compare(command, expected, self.serve(command))
            elif assigned := _ASSIGNED.match(command):
                name = assigned["name"]
                self._environ[name] = self._run(f'{command} && printf %s "${name}"')
            elif command.startswith("cd "):
                self._cwd = (self._cwd / command[3:].strip()).resolve()
            else:
                self._compare(command, expected, self._run(command))
        return len(commands)

    def _run(self, command: str) -> str:
        moved = ("/tmp/", f"{self._root}/")
        done = subprocess.run(
            ["bash", "-c", command.replace(f":{_PORT}", f":{self._port}").replace(*moved)],
            cwd=self._cwd,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def _compare(self, command: str, expected: list[str], printed: str) -> None:
        asks_only = command.startswith("curl ") and " -d " not in command
        until = time.monotonic() + 15
        while not self._matches(expected, printed):
            # What a command set off is there a moment later, and readers can only look again.
            may_look_again = asks_only and time.monotonic() < until
            assert may_look_again, (
                f"{self._page.name} says that `{command}` prints\n" + "\n".join(expected) + "\n\n"
                f"and it printed\n{printed}"
            )
            time.sleep(0.1)
            printed = self._run(command)

    def _matches(self, expected: list[str], printed: str) -> bool:
        if not expected:
            return not printed.strip()
        found = printed.replace(f":{self._port}", f":{_PORT}").replace("\r\n", "\n")
        wanted = "".join(
            r"(?:.*\n)*?"
            if line.strip() == "…"
            else re.escape(line).replace("…", ".*") + r"[ \t]*\n"
            for line in expected
        )
        return re.fullmatch(wanted, found.removesuffix("\n") + "\n") is not None

    def _stop(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            server.stop()


class _Server:
    """`tenfold run`, until it is ready."""

    def __init__(self, command: str, cwd: Path, environ: dict[str, str], port: int) -> None:
        self._process = subprocess.Popen(
            shlex.split(command),
            cwd=cwd,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        opener = build_opener(ProxyHandler({}))
        until = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, "".join(self._said)
            try:
                with opener.open(f"http://127.0.0.1:{port}/_tenfold/ready", timeout=5):
                    break
            except OSError:
                assert time.monotonic() < until, "".join(self._said)
                time.sleep(0.05)
        while not any(line.startswith("Ctrl-C") for line in self._said):
            assert time.monotonic() < until, "".join(self._said)
            time.sleep(0.02)

    @property
    def greeting(self) -> str:
        """What it has printed so far."""
        return "".join(self._said)

    def stop(self) -> None:
        """Interrupt it, and see that it drained."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._reader.join(10)
            if self._process.stdout is not None:
                self._process.stdout.close()
        assert code == 0, "".join(self._said)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.append(line)


def _make_tools(tools: Path) -> None:
    """The commands that a page uses, as those of the Python that runs the tests."""
    tools.mkdir()
    entries = {
        "python": "",
        "tenfold": "-c 'import sys; from tenfold.cli.entry import main; sys.exit(main())'",
        "store": "-c 'import sys; sys.argv[0] = \"store\"; from store.cli import main; main()'",
    }
    for name, arguments in entries.items():
        path = tools / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        path.chmod(0o755)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
