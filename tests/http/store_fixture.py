"""The real store as a process of its own, for tests of what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.faults.store_process import StoreProcess, Wire, free_port

__all__ = ["RunningStore", "running_store"]


class RunningStore:
    """A store that serves. `url` is where; `port` is its."""

    def __init__(self, process: StoreProcess) -> None:
        self.process = process
        self.port = process.port
        self.url = f"http://127.0.0.1:{process.port}"

    def is_well(self) -> None:
        """Assert that the process is up, ready, and logged no fault."""
        assert self.process.process.poll() is None, self.process.tail()
        wire = Wire(self.port)
        try:
            assert wire.get("/_tenfold/ready").status == 200, self.process.tail()
        finally:
            wire.close()
        assert "Traceback" not in self.process.log.read_text(), self.process.tail()


@contextmanager
def running_store(data: Path, settings: Mapping[str, str] | None = None) -> Iterator[RunningStore]:
    """Run the store on a data directory until the block ends; it then drains and exits 0.

    Args:
        settings: environment variables on top of this process's.
    """
    with StoreProcess(data, free_port(), settings=settings) as process:
        assert process.await_ready(), process.tail()
        yield RunningStore(process)
        assert process.stop() == 0, process.tail()
