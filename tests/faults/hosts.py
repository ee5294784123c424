"""Another host: a network namespace that is reached over a link, and what may go wrong on it.

Needs root, `ip` and `iptables`. All traffic stays on this machine.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.servers import missing

__all__ = ["Host", "SlowWay", "other_host"]

_HOW = "Install `iproute2` and `iptables`, and run as root."
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_ENVIRON = {**os.environ, "PATH": _PATH}
_CHAINS = ("INPUT", "OUTPUT")
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Host:
    """A namespace with a loopback of its own, and one link to here.

    `here` and `there` are the addresses of the link's two ends.
    """

    def __init__(self, name: str, here: str, there: str) -> None:
        self.name, self.here, self.there = name, here, there

    @property
    def under(self) -> list[str]:
        """What is put before a command that is to run there."""
        return ["ip", "netns", "exec", self.name]

    def lose(self, share: float) -> None:
        """Lose so many of the packets, in each direction; all of them is a partition."""
        self.heal()
        some = ["-m", "statistic", "--mode", "random", "--probability", str(share)]
        for chain, side in zip(_CHAINS, ("-i", "-o"), strict=True):
            rule = ["-A", chain, side, "there", *(some if share < 1 else []), "-j", "DROP"]
            _run(*self.under, "iptables", *rule)

    @property
    def lost(self) -> int:
        """Packets that were lost since the last change."""
        rules = "".join(_run(*self.under, "iptables", "-nvxL", chain) for chain in _CHAINS)
        return sum(int(line.split()[0]) for line in rules.splitlines() if " DROP " in line)

    def heal(self) -> None:
        """Lose nothing any more."""
        for chain in _CHAINS:
            _run(*self.under, "iptables", "-F", chain)


@contextmanager
def other_host() -> Iterator[Host]:
    """A host that is gone after the block, with its link."""
    if not (all(shutil.which(each, path=_PATH) for each in ("ip", "iptables"))):
        missing("network tools", _HOW)
    token = secrets.token_hex(3)
    name, ours = f"tenfold-{token}", f"tf{token}"
    part = secrets.randbelow(250) + 1
    host = Host(name, f"10.231.{part}.1", f"10.231.{part}.2")
    made = os.geteuid() == 0 and _try("ip", "netns", "add", name)
    if not made:
        pytest.skip("network namespaces cannot be made here: that takes root on Linux")
    try:
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", "there", "netns", name)
        _run("ip", "addr", "add", f"{host.here}/30", "dev", ours)
        _run("ip", "link", "set", ours, "up")
        for words in (
            ("addr", "add", f"{host.there}/30", "dev", "there"),
            ("link", "set", "there", "up"),
            ("link", "set", "lo", "up"),
        ):
            _run(*host.under, "ip", *words)
        try:
            host.lose(0.5)
            host.heal()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"packets cannot be lost here: {error.stderr}")
        yield host
    finally:
        _try("ip", "link", "del", ours)
        _try("ip", "netns", "del", name)


class SlowWay:
    """Forwards connections to other addresses, and holds up what travels for as long as is said.

    Args:
        ways: by the port on the loopback here, the host and port there.
    """

    def __init__(self, ways: dict[int, tuple[str, int]]) -> None:
        self.delay_s = 0.0
        self._ways = ways
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> SlowWay:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        servers = [
            await asyncio.start_server(self._forward(host, there), "127.0.0.1", port)
            for port, (host, there) in self._ways.items()
        ]
        self._ready.set()
        await self._end.wait()
        for server in servers:
            server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _forward(self, host: str, port: int) -> Connected:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there, back = await asyncio.open_connection(host, port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

        return connected

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        waiting: deque[tuple[float, bytes]] = deque()
        come = asyncio.Event()

        async def read() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(65536)
                except OSError:
                    data = b""
                waiting.append((loop.time() + self.delay_s, data))
                come.set()

        reading = loop.create_task(read())
        try:
            while True:
                while not waiting:
                    come.clear()
                    await come.wait()
                due_s, data = waiting.popleft()
                await asyncio.sleep(due_s - loop.time())
                if not data:
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            return
        finally:
            reading.cancel()
            with suppress(OSError):
                writer.close()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, env=_ENVIRON).stdout


def _try(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True, env=_ENVIRON).returncode == 0
