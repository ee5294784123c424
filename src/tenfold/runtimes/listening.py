"""Where a product listens, and what it says to whoever started it."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from tenfold import __version__
from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.runtimes.places import Origins
from tenfold.runtimes.settings import HttpLimits

__all__ = ["PortInUseError", "bind", "bracketed", "greeting", "refuse_open_doors"]

_POLL_S = 0.05


class PortInUseError(TenfoldError):
    """Another process listens on the port; nothing was started."""

    code = "run.port_in_use"


def refuse_open_doors(limits: HttpLimits, origins: Origins | None) -> None:
    """Nobody outside this machine may act as the operator without saying who they are.

    Raises: UserMistakeError where the product would listen on more than the loopback.
    """
    if _is_loopback(limits.host):
        return
    place = origins.of(("http", "host")) if origins is not None else "default"
    raise UserMistakeError(
        f"{place}: the host is {limits.host!r}, which other machines can reach, and callers are "
        "not authenticated: everyone who connects would act as the operator. Nothing was "
        "started. Listen on 127.0.0.1, and let a proxy that authenticates its callers forward "
        "to it."
    )


def bind(limits: HttpLimits, *, wait_s: float = 0.0) -> socket.socket:
    """A socket bound to where the product listens, which does not listen yet.

    Args:
        wait_s: how long the processes of a killed supervisor are waited for; they
            leave the port within moments.
    Raises: PortInUseError; UserMistakeError where the address is not this machine's.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            return _bind(limits)
        except PortInUseError:
            if time.monotonic() >= until:
                raise
            # Another process's end can only be looked for, not awaited.
            time.sleep(_POLL_S)


def _bind(limits: HttpLimits) -> socket.socket:
    host = "127.0.0.1" if limits.host == "localhost" else limits.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, limits.port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"Another process listens on {limits.host}:{limits.port}. Nothing was started. "
                "Stop it, or choose another port with --port or PORT."
            ) from error
        raise UserMistakeError(
            f"{limits.host}:{limits.port} cannot be listened on: {error.strerror}. Nothing was "
            "started. Choose another with --host and --port."
        ) from error
    listener.setblocking(False)
    return listener


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host.strip('[]')}]" if ":" in host else host


def greeting(
    name: str,
    topology: str,
    mounts: Iterable[str],
    data_dir: Path,
    url: str,
    processes: str = "",
) -> str:
    """What is said when a product serves.

    Args:
        url: where it is, without a slash at the end.
        processes: what runs, where that is more than one process.
    """
    mounts = list(mounts)
    lines = [f"Tenfold {__version__} · {name} · topology {topology}", ""]
    if "/" in mounts:
        lines.append(f"  open     {url}/")
    lines += [f"  mounted  {url}{path}" for path in mounts if path != "/"]
    lines += [f"  API      {url}/docs", f"  data     {data_dir}"]
    if processes:
        lines.append(f"  runs     {processes}")
    lines += [
        "",
        "  Callers are not authenticated: whoever connects from this machine acts as its",
        "  operator. Other machines cannot connect.",
        "",
        "Ctrl-C drains and stops.",
    ]
    return "\n".join(lines)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
