"""The store as a process of its own on real files, which tests start, strike and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["STORE", "Answer", "NoAnswerError", "StoreProcess", "Wire", "free_port", "product_file"]

STORE = Path(__file__).parents[2] / "examples" / "store"
VICTIM = Path(__file__).with_name("victim.py")
_RUN = "import sys; from tenfold.cli.entry import main; sys.argv[0] = 'tenfold'; sys.exit(main())"


class NoAnswerError(Exception):
    """The connection ended before a whole answer had come: it may be done, or not."""


class Answer(msgspec.Struct, frozen=True):
    """A status, headers by lower-case name, and the body as JSON."""

    status: int
    headers: dict[str, str]
    body: Any


class Wire:
    """One connection to the store, opened anew when it was lost. Not for several threads."""

    def __init__(self, port: int, timeout_s: float = 20.0) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._connection: HTTPConnection | None = None

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send("POST", path, body, named)

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and read the whole answer. Raises NoAnswerError."""
        sent = dict(headers or {})
        data = None
        if body is not None:
            data = msgspec.json.encode(body)
            sent["content-type"] = "application/json"
        try:
            if self._connection is None:
                self._connection = HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_s)
            self._connection.request(method, path, body=data, headers=sent)
            reply = self._connection.getresponse()
            raw = reply.read()
        except (OSError, HTTPException) as error:
            self.close()
            raise NoAnswerError(f"{method} {path}: {error!r}") from error
        names = {name.lower(): value for name, value in reply.getheaders()}
        if reply.will_close:
            self.close()
        is_json = "json" in names.get("content-type", "")
        return Answer(reply.status, names, msgspec.json.decode(raw) if raw and is_json else None)

    def pages(self, path: str) -> list[Any]:
        """All items of a list, page after page."""
        items: list[Any] = []
        cursor: str | None = None
        joint = "&" if "?" in path else "?"
        while True:
            answer = self.get(f"{path}{joint}limit=100" + (f"&cursor={cursor}" if cursor else ""))
            assert answer.status == 200, answer
            items += answer.body["items"]
            cursor = answer.body["next"]
            if cursor is None:
                return items

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class StoreProcess:
    """One life of the store on a data directory.

    Args:
        trap: point, number and arming of `victim.py`; None runs the store as it is shipped.
        under: a command that is put before it, such as strace.
        settings: environment variables on top of this process's.
        product: the folder of another product than the store.
    """

    def __init__(
        self,
        data: Path,
        port: int,
        *,
        trap: tuple[str, int, str] | None = None,
        under: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        product: Path = STORE,
    ) -> None:
        self.data = data
        self._under = bool(under)
        self.port = port
        data.mkdir(parents=True, exist_ok=True)
        self.log = data.parent / f"{data.name}.log"
        command = [sys.executable, "-c", _RUN, "run"]
        if trap is not None:
            command = [sys.executable, str(VICTIM), *map(str, trap)]
        environ = {
            **os.environ,
            "PORT": str(port),
            "TENFOLD_DATA": str(data),
            "PYTHONPATH": os.pathsep.join([str(product), *(path for path in sys.path if path)]),
            **(settings or {}),
        }
        self._begins_at = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, *command], cwd=product, env=environ, stdout=log, stderr=log
            )

    def await_ready(self, within_s: float = 30.0) -> bool:
        """True once it serves; False where it ended before."""
        until = time.monotonic() + within_s
        wire = Wire(self.port, timeout_s=2)
        try:
            while self.process.poll() is None:
                try:
                    if wire.get("/_tenfold/ready").status == 200:
                        return True
                except NoAnswerError:
                    pass
                assert time.monotonic() < until, f"not ready in time:\n{self.tail()}"
                time.sleep(0.01)
            return False
        finally:
            wire.close()

    def await_end(self, within_s: float) -> int | None:
        """The exit code; None where it still runs after so long."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return None

    @property
    def pid(self) -> int:
        """The store's own process, which may run under another command."""
        if not self._under:
            return self.process.pid
        pid: int = msgspec.json.decode((self.data / "lock").read_bytes())["pid"]
        return pid

    def kill(self) -> None:
        """SIGKILL: it does not see it coming."""
        if self.process.poll() is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except (OSError, msgspec.DecodeError):  # under a command, and not begun or ended yet
                self.process.kill()
        self.process.wait()

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(within_s)

    def tail(self, most: int = 3000) -> str:
        """The end of what this life printed."""
        with self.log.open("rb") as log:
            log.seek(self._begins_at)
            return log.read()[-most:].decode(errors="replace")

    def __enter__(self) -> StoreProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


_FAULTS = """
[topologies.faults.settings.payments]
provider = "test"

[topologies.faults.settings.payments.test]
ledger = "{data}/test-provider/ledger.db"
"""
_WORST = """
decline_share = 0.1
twice_share = 0.2
silent_share = 0.1
silent_s = 0.05
"""


def product_file(folder: Path, provider: str = _WORST) -> dict[str, str]:
    """The store with a payment provider at its worst, as environment variables that say so.

    Args:
        provider: its settings; some charges are declined, some answered twice, some not
            answered at first, if nothing else is said.
    """
    file = folder / "tenfold.toml"
    file.write_text((STORE / "tenfold.toml").read_text() + _FAULTS + provider)
    return {"TENFOLD_PRODUCT": str(file), "TENFOLD_TOPOLOGY": "faults"}
