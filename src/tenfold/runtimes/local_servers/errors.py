"""What can go wrong when servers are found or started on this machine."""

from __future__ import annotations

from pathlib import Path

from tenfold.contracts.errors import TenfoldError, UserMistakeError

__all__ = [
    "DataVersionError",
    "ServerStartError",
    "ServersBusyError",
    "ServersMissingError",
    "log_tail",
]

_TAIL_LINES = 15
_TAIL_BYTES = 8_192


class ServersMissingError(UserMistakeError):
    """A server is needed that is nowhere on this machine; nothing was started."""

    code = "servers.missing"


class ServerStartError(TenfoldError):
    """A server did not start, or did not answer in time; what had been started was stopped.

    `log` is the end of what the server wrote.
    """

    code = "servers.start_failed"

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(f"{message}\n{log}" if log else message)
        self.log = log


class DataVersionError(UserMistakeError):
    """Data of one major version of PostgreSQL, and only programs of others; it was not touched."""

    code = "servers.data_version"


class ServersBusyError(TenfoldError):
    """Another process is starting or stopping this directory's servers and did not finish."""

    code = "servers.busy"


def log_tail(path: Path, *, since_bytes: int = 0) -> str:
    """The last lines of a server's log, indented, from a place on; empty where there are none."""
    try:
        with path.open("rb") as log:
            end = log.seek(0, 2)
            log.seek(max(since_bytes, end - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-_TAIL_LINES:])
