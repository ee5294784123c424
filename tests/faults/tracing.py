"""strace around a running store: what it asks of the disk, and what the disk answers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Calls", "failing_disk", "need_strace", "tracing_command"]

_SYSCALLS = "fdatasync,fsync,pwrite64,write,sendto,sendmsg,writev"


def need_strace() -> str:
    """Where strace is; the test is skipped without it, but never in CI."""
    found = shutil.which("strace")
    if found is None:
        said = "strace is not installed, so nothing is known of syncs. apt install strace"
        if os.environ.get("CI"):
            pytest.fail(said)
        pytest.skip(said)
    return found


def tracing_command(output: Path) -> list[str]:
    """What is put before a command so that its writes, syncs and answers are noted."""
    return [
        *(need_strace(), "-f", "-y", "-q", "-s", "9000", "-e", f"trace={_SYSCALLS}"),
        *("-e", "signal=none", "-o", str(output)),
    ]


class Calls:
    """A trace, line by line: when each call began and when it had ended."""

    _UNFINISHED = re.compile(r"^(\d+)\s+(\w+)\((.*) <unfinished \.\.\.>$", re.DOTALL)
    _RESUMED = re.compile(r"^(\d+)\s+<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
    _WHOLE = re.compile(r"^(\d+)\s+(\w+)\((.*)$", re.DOTALL)

    def __init__(self, output: Path) -> None:
        self.calls: list[tuple[str, str, int, int]] = []
        """Name, arguments, line of the beginning, line of the end."""
        open_: dict[str, tuple[str, str, int]] = {}
        for number, line in enumerate(output.read_text(errors="replace").splitlines()):
            if found := self._UNFINISHED.match(line):
                open_[found[1]] = (found[2], found[3], number)
            elif found := self._RESUMED.match(line):
                begun = open_.pop(found[1], None)
                if begun is not None:
                    self.calls.append((begun[0], begun[1] + found[3], begun[2], number))
            elif found := self._WHOLE.match(line):
                self.calls.append((found[2], found[3], number, number))

    def first(self, names: set[str], *texts: str, after: int = -1) -> tuple[int, int] | None:
        """Beginning and end of the first such call that began after a line."""
        for name, arguments, begun, ended in sorted(self.calls, key=lambda call: call[2]):
            if begun > after and name in names and all(text in arguments for text in texts):
                return begun, ended
        return None


@contextmanager
def failing_disk(pid: int, call: str, error: str, *files: Path) -> Iterator[None]:
    """While the block runs, a process's system call fails on some files."""
    command = [need_strace(), "-f", "-p", str(pid), "-o", "/dev/null"]
    command += ["-e", f"trace={call}", "-e", f"inject={call}:error={error}"]
    for file in files:
        command += ["-P", str(file)]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        assert strace.stderr is not None
        os.set_blocking(strace.stderr.fileno(), False)
        _await_attached(strace)
        yield
    finally:
        if strace.poll() is None:
            strace.send_signal(signal.SIGINT)
        strace.wait(10)
        if strace.stderr is not None:
            strace.stderr.close()


def _await_attached(strace: subprocess.Popen[bytes]) -> None:
    assert strace.stderr is not None
    said = b""
    until = time.monotonic() + 10
    while b"attached" not in said:
        said += strace.stderr.read() or b""
        if b"Operation not permitted" in said:
            pytest.skip(f"strace may not attach to a running process here: {said.decode()}")
        assert strace.poll() is None, said
        assert time.monotonic() < until, said
        time.sleep(0.01)
