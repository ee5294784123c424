"""One log for several processes: their lines, whole and named, on one stream."""

from __future__ import annotations

import os
import select
import selectors
import threading

__all__ = ["LogPump"]

_CHUNK = 65_536
_MAX_LINE = 1_048_576


class LogPump:
    """Copies what processes write to one descriptor, line by line, on a thread of its own.

    Lines of JSON name their process already and pass as they are; any other, such
    as a `print` or what an interpreter says at its end, gets the name in front.
    Where nobody reads the log, the processes wait, and the supervisor does not.
    """

    def __init__(self, out: int) -> None:
        """Begin to copy to a descriptor."""
        self._out = out
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()
        self._new: list[tuple[int, str]] = []
        self._closing = False
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="tenfold-log", daemon=True)
        self._thread.start()

    def pipe(self, name: str) -> int:
        """A descriptor for one process to write to; the caller closes it once it is handed on."""
        read, write = os.pipe()
        with self._lock:
            self._new.append((read, name))
        os.write(self._wake_write, b".")
        return write

    def close(self, within_s: float = 2.0) -> None:
        """Copy what is left of processes that have ended, and end."""
        self._closing = True
        os.write(self._wake_write, b".")
        self._thread.join(within_s)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.read(self._wake_read, _CHUNK)
                    self._take_new()
                else:
                    self._copy(key.data)
            if self._closing and len(self._selector.get_map()) == 1:
                return

    def _take_new(self) -> None:
        with self._lock:
            new, self._new = self._new, []
        for fd, name in new:
            self._selector.register(fd, selectors.EVENT_READ, _Source(fd, name))

    def _copy(self, source: _Source) -> None:
        data = os.read(source.fd, _CHUNK)
        lines = source.lines(data)
        if lines:
            self._write(lines)
        if not data:
            self._selector.unregister(source.fd)
            os.close(source.fd)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._out, data) :]
            except BlockingIOError:
                select.select([], [self._out], [])
            except OSError:
                return  # whoever read the log has gone; the product goes on


class _Source:
    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self._prefix = f"{name} | ".encode()
        self._rest = b""

    def lines(self, data: bytes) -> bytes:
        """The whole lines that came, named; at the end, or of a line without one, what there is."""
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if not data or len(self._rest) > _MAX_LINE:
            whole, newline, self._rest = whole + newline + self._rest, b"", b""
        return b"".join(self._named(line) for line in whole.split(b"\n") if line)

    def _named(self, line: bytes) -> bytes:
        return (line if line.startswith(b"{") else self._prefix + line) + b"\n"
