"""Start a server's program apart from this process, and wait until it answers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.account import Account
from tenfold.runtimes.local_servers.errors import ServerStartError, log_tail
from tenfold.runtimes.local_servers.probes import Answer

__all__ = ["Launch", "launch", "run_program", "turn_log", "wait_ready"]

_LOG_BYTES = 4_194_304
_APART = '"$@" </dev/null >>"$0" 2>&1 & echo $!'
"""The shell ends at once and names the server's process, which is then nobody's child: it gets no
signal of this terminal, leaves no zombie here, and outlives a `kill -9` for its keeper to stop."""


class Launch(Struct):
    """A process that was started: what it is called, who it is, and where it writes."""

    name: str
    pid: int
    born: str
    log: Path
    log_from: int

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return keeper.is_alive(self.pid, self.born)

    @property
    def wrote(self) -> str:
        """The last lines that it wrote since it was started."""
        return log_tail(self.log, since_bytes=self.log_from)


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """What a server's programs see of the environment: nothing that could change what they do."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C", **(extra or {})}


def turn_log(log: Path) -> None:
    """Put a log that has grown long aside; one old one is kept."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))


def launch(name: str, command: Sequence[str], log: Path, account: Account | None = None) -> Launch:
    """Start a program that runs until it is stopped, in a session of its own."""
    turn_log(log)
    log_from = log.stat().st_size if log.exists() else 0
    done = subprocess.run(
        ["/bin/sh", "-c", _APART, str(log), *command],
        capture_output=True,
        text=True,
        cwd="/",
        env=environment(),
        start_new_session=True,
        timeout=30,
        check=False,
        **(account.popen() if account is not None else {}),
    )
    if not done.stdout.strip().isdigit():
        raise ServerStartError(f"{name} could not be started: {done.stderr.strip()}")
    pid = int(done.stdout)
    return Launch(name=name, pid=pid, born=keeper.born(pid), log=log, log_from=log_from)


def wait_ready(started: Launch, probe: Callable[[], Answer], deadline: float) -> None:
    """Wait until a server answers.

    Raises: ServerStartError with the end of its log when it ends instead, or has
        not answered at the deadline.
    """
    pause_s = 0.005
    while (answer := probe()) != "ready":
        if not started.alive:
            raise ServerStartError(f"{started.name} ended while it started.", log=started.wrote)
        if time.monotonic() > deadline:
            state = "was still starting" if answer == "starting" else "did not answer"
            raise ServerStartError(
                f"{started.name} (process {started.pid}) {state} when the time for it was over.",
                log=started.wrote,
            )
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)


def run_program(
    command: Sequence[str],
    *,
    deadline: float,
    account: Account | None = None,
    given: str = "",
    secrets: dict[str, str] | None = None,
) -> None:
    """Run a program to its end.

    Raises: ServerStartError with what it said when it fails or takes too long.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            list(command),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            env=environment(secrets),
            start_new_session=True,
            timeout=max(deadline - time.monotonic(), 1.0),
            check=False,
            **(account.popen() if account is not None else {}),
        )
    except subprocess.TimeoutExpired as error:
        raise ServerStartError(f"{name} did not finish in the time for it.") from error
    if done.returncode != 0:
        lines = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-15:])
        raise ServerStartError(f"{name} failed (exit code {done.returncode}).", log=lines)
