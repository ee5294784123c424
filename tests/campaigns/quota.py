"""A bound on the CPU of a process: by cgroups where they may be written, else by signals.

Found to work: cgroup v2 (`cpu.max`) and v1 (`cpu.cfs_quota_us`) as root; without rights the
process is stopped and continued in turns of 20 ms, as cpulimit does it, by its own CPU time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cpu_quota"]

_PERIOD_US = 100_000
_ROOT = Path("/sys/fs/cgroup")


@contextmanager
def cpu_quota(pid: int, share: float, name: str) -> Iterator[str]:
    """Hold a process to a share of one CPU while this lasts; yields how it is done."""
    for make in (_second, _first):
        try:
            group = make(name, share)
        except OSError:
            continue
        try:
            (group / "cgroup.procs").write_text(str(pid))
            yield f"{make.__doc__} with {share:.2f} CPU in periods of 100 ms"
        finally:
            _end(group)
        return
    throttle = _Throttle(pid, share)
    throttle.start()
    try:
        yield f"stopped and continued to {share:.2f} CPU"
    finally:
        throttle.end()


def _second(name: str, share: float) -> Path:
    """cgroup v2"""
    if not (_ROOT / "cgroup.controllers").exists():
        raise OSError("no cgroup v2")
    group = _ROOT / name
    group.mkdir()
    try:
        (group / "cpu.max").write_text(f"{int(share * _PERIOD_US)} {_PERIOD_US}")
    except OSError:
        group.rmdir()
        raise
    return group


def _first(name: str, share: float) -> Path:
    """cgroup v1"""
    group = _ROOT / "cpu" / name
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(int(share * _PERIOD_US)))
    except OSError:
        group.rmdir()
        raise
    return group


def _end(group: Path) -> None:
    """Move what is left in it to its parent, and remove it."""
    with contextlib.suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
    for _ in range(100):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.01)


class _Throttle(threading.Thread):
    """Stops the process when it is ahead of its share, and lets it go on when it is not."""

    def __init__(self, pid: int, share: float) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._share = share
        self._over = threading.Event()

    def run(self) -> None:
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        stopped = False
        spare_s, before_s, seen_s = 0.0, self._cpu(tick_s), time.monotonic()
        with contextlib.suppress(OSError):
            while not self._over.wait(0.005):
                used_s, now_s = self._cpu(tick_s), time.monotonic()
                spare_s += (now_s - seen_s) * self._share - (used_s - before_s)
                spare_s = min(spare_s, 0.02)
                before_s, seen_s = used_s, now_s
                if (spare_s < 0) != stopped:
                    stopped = not stopped
                    os.kill(self._pid, signal.SIGSTOP if stopped else signal.SIGCONT)
            os.kill(self._pid, signal.SIGCONT)

    def end(self) -> None:
        self._over.set()
        self.join(5)

    def _cpu(self, tick_s: float) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * tick_s
