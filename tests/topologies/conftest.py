"""The store under each topology, as a process of its own, reached over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.store_process import StoreProcess, free_port
from tests.topologies.shop_client import Shop

TOPOLOGIES = {
    "prototype": {},
    # Servers of its own, found or started as on a laptop: PostgreSQL with a replica, and Valkey.
    "growth": {"TENFOLD_PROCESSES__WEB": "4", "TENFOLD_PROCESSES__WORKERS": "2"},
}


@pytest.fixture(scope="session", params=list(TOPOLOGIES))
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A client of the running store; every test of the session shares it."""
    topology: str = request.param
    settings = {"TENFOLD_TOPOLOGY": topology, **TOPOLOGIES[topology]}
    with (
        TemporaryDirectory(prefix="tenfold-store-", ignore_cleanup_errors=True) as folder,
        StoreProcess(Path(folder) / "data", free_port(), settings=settings) as process,
    ):
        # Where root runs the tests, the servers run as an account that must get through here.
        Path(folder).chmod(0o711)
        assert process.await_ready(90), process.tail()
        yield Shop(f"http://127.0.0.1:{process.port}")
        assert process.stop() == 0, process.tail()
        assert "Traceback" not in process.log.read_text(), process.tail()
