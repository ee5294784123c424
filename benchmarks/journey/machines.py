"""What runs on the way: the store in each topology, its servers, and the balancer before it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from benchmarks.measure import descendants, process_rss_mb
from benchmarks.processes import ROOT, STORE, TENFOLD, free_port
from tenfold.runtimes.local_servers.start import start_local_servers
from tenfold.runtimes.local_servers.state import read_state
from tenfold.runtimes.local_servers.wanted import LocalServers, ServerWants
from tenfold.runtimes.topology import read_product_file

__all__ = [
    "CHECK_S",
    "Balancer",
    "Machine",
    "NotThereError",
    "Site",
    "cpu_s",
    "mover",
    "rss_mb",
    "shared_mb",
]

CHECK_S, FALL = 0.5, 8
"""How often the balancer asks whether a machine is ready, and how many wrong answers it takes.

An answer that takes longer than `CHECK_S` is a wrong one, and while a fleet starts on the same
few cores some do.
"""
_READY_S = 240.0
_TICKS = os.sysconf("SC_CLK_TCK")
_WAITS = "The data is being moved here from"
_opener = build_opener(ProxyHandler({}))


class NotThereError(RuntimeError):
    """A program that the journey needs is not installed."""


class Site:
    """One folder with all that is kept, the public address, and how each topology is told of it.

    The payment provider plays an outsider, so its ledger is one and the same all
    the way. Nobody is shed: whoever must wait, because a fleet starts on the same
    few cores, waits, and is counted as having waited.
    """

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o711)  # PostgreSQL may have to run as another account
        self.folder = folder
        self.port = free_port()
        self.ports = {name: free_port() for name in ("prototype", "growth", "scale")}
        self.urls: LocalServers | None = None
        self.ledger = folder / "provider" / "ledger.db"

    def data(self, topology: str) -> Path:
        """The data directory of a topology: the process that has it locks it."""
        return self.folder / topology

    def environ(self, topology: str) -> dict[str, str]:
        """The environment of a command on one topology."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TENFOLD_")
            and name not in ("PORT", "DATABASE_URL", "REDIS_URL", "VALKEY_URL")
        }
        servers = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        found = {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(STORE), *filter(None, sys.path)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PORT": str(self.ports[topology]),
            "TENFOLD_TOPOLOGY": topology,
            "TENFOLD_DATA": str(self.data(topology)),
            "TENFOLD_BALANCER__LISTEN": f"127.0.0.1:{self.port}",
            "TENFOLD_BALANCER__SERVERS": servers,
            "TENFOLD_BALANCER__CHECK_S": str(CHECK_S),
            "TENFOLD_BALANCER__FALL": str(FALL),
            "TENFOLD_HTTP__TRUSTED_PROXIES": "127.0.0.1/32",
            "TENFOLD_SETTINGS__PAYMENTS__TEST__LEDGER": str(self.ledger),
            "TENFOLD_SHEDDING__WAIT_S": "30",
            "TENFOLD_SHEDDING__STALE_S": "30",
            # A fleet that is started on the target of a move waits for its end.
            "TENFOLD_PROCESSES__START_TIMEOUT_S": str(_READY_S),
        }
        if self.urls is not None:
            found["TENFOLD_DATABASE_URL"] = self.urls.database_url
            found["TENFOLD_REPLICA_URLS"] = ",".join(self.urls.replica_urls)
            found["TENFOLD_CACHE_URL"] = self.urls.cache_url or ""
        return found

    @contextmanager
    def servers(self) -> Iterator[None]:
        """PostgreSQL with a replica, and Valkey, as a start of growth on this machine has them."""
        wants = ServerWants(replicas=1, discard=True)
        with start_local_servers(self.folder / "servers", wants, {}) as found:
            self.urls = found.urls
            yield

    def server_pids(self) -> list[int]:
        """The servers' first processes, where any run."""
        return [each.pid for each in read_state(self.folder / "servers").servers if each.alive]

    def command(self, topology: str, *words: str) -> list[str]:
        """`tenfold` with these words."""
        return [*TENFOLD, *words, "--topology", topology]


class Machine:
    """One life of the store under `tenfold run`, as a machine behind the balancer."""

    def __init__(self, site: Site, topology: str) -> None:
        self.topology = topology
        self.port = site.ports[topology]
        processes = read_product_file(STORE, topology).topology.processes
        self._processes = processes.web + processes.workers
        self._log = site.folder / f"{topology}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                site.command(topology, "run"),
                cwd=STORE,
                env=site.environ(topology),
                stdout=log,
                stderr=log,
            )

    def await_ready(self) -> float:
        """When it was ready, on the monotonic clock."""
        until = time.monotonic() + _READY_S
        while not _is_ready(self.port):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.topology} did not get ready:\n{self.said()[-3000:]}")
            time.sleep(0.02)  # another process can only be asked
        return time.monotonic()

    def await_waiting(self) -> None:
        """Return when each of its processes has begun and waits for the end of a move."""
        until = time.monotonic() + _READY_S
        while self.said().count(_WAITS) < self._processes:
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.topology} does not wait:\n{self.said()[-3000:]}")
            time.sleep(0.02)  # its log can only be read

    def stop(self) -> None:
        """SIGTERM, and wait until it has drained."""
        self.process.terminate()
        self.await_end()

    def await_end(self) -> None:
        """Wait until it has ended as one that was asked to stop does."""
        if self.process.wait(_READY_S) != 0:
            raise RuntimeError(f"{self.topology} ended otherwise than it should:\n{self.said()}")

    def said(self) -> str:
        """What it logged."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            family = descendants(self.process.pid)
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            self.process.wait()


@contextmanager
def mover(site: Site) -> Iterator[subprocess.Popen[str]]:
    """`tenfold move` from the prototype to growth; it switches over when a line is sent to it."""
    command = [*TENFOLD, "move", "--from", "prototype", "--to", "growth"]
    environ = {**site.environ("growth"), "TENFOLD_DATA": str(site.data("prototype"))}
    with subprocess.Popen(
        [*command, "--wait"],
        cwd=STORE,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


class Balancer:
    """HAProxy, as `tenfold export haproxy` writes it, with a place for each topology's machine."""

    def __init__(self, site: Site) -> None:
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
        program = shutil.which("haproxy", path=path)
        if program is None:
            raise NotThereError(
                "HAProxy is not installed, which holds the public address while the store "
                "changes behind it. Nothing was started. Install it: apt-get install haproxy"
            )
        self.port = site.port
        file = site.folder / "haproxy.cfg"
        subprocess.run(
            site.command("prototype", "export", "haproxy", "--out", str(file)),
            cwd=STORE,
            env=site.environ("prototype"),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with (site.folder / "haproxy.log").open("wb") as log:
            self.process = subprocess.Popen(
                [program, "-f", str(file), "-db"], cwd=ROOT, stdout=log, stderr=log
            )

    def await_served(self) -> float:
        """When somebody behind it was ready, on the monotonic clock."""
        until = time.monotonic() + _READY_S
        while not _is_ready(self.port):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("nobody answers behind the balancer")
            time.sleep(0.02)
        return time.monotonic()

    def __enter__(self) -> Balancer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)


def cpu_s(roots: Iterable[int]) -> float:
    """Processor time so far of processes, of all below them, and of children that have ended."""
    ticks = 0
    for root in roots:
        for pid in descendants(root):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS


def rss_mb(roots: Iterable[int]) -> float:
    """Resident memory of processes and of all below them, added up."""
    found = 0.0
    for root in roots:
        for pid in descendants(root):
            with suppress(OSError, RuntimeError):  # it has just ended
                found += process_rss_mb(pid)
    return found


def shared_mb(roots: Iterable[int]) -> float:
    """The same with each page counted once, however many share it (proportional set size)."""
    found = 0
    for root in roots:
        for pid in descendants(root):
            with suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found += int(re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)[0])
    return found * 1024 / 1e6


def _is_ready(port: int) -> bool:
    try:
        with _opener.open(f"http://127.0.0.1:{port}/_tenfold/ready", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
