"""The store under each topology, as a process of its own, reached over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.store_process import StoreProcess, free_port
from tests.topologies.shop_client import Shop


@pytest.fixture(scope="session", params=["prototype"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A client of the running store; every test of the session shares it."""
    data = tmp_path_factory.mktemp("store") / "data"
    topology: str = request.param
    with StoreProcess(data, free_port(), settings={"TENFOLD_TOPOLOGY": topology}) as process:
        assert process.await_ready(), process.tail()
        yield Shop(f"http://127.0.0.1:{process.port}")
        assert process.stop() == 0, process.tail()
        assert "Traceback" not in process.log.read_text(), process.tail()
