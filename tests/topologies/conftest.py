"""The store under each topology, as a process of its own, reached over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.topologies.shop_client import Shop

_STORE = Path(__file__).parents[2] / "examples" / "store"
_RUN = "import sys; from tenfold.cli.entry import main; sys.argv[0] = 'tenfold'; sys.exit(main())"


@pytest.fixture(scope="session", params=["prototype"])
def shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A client of the running store; every test of the session shares it."""
    data = tmp_path_factory.mktemp("data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ,
        "PORT": str(port),
        "TENFOLD_DATA": str(data),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    log = (data / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, "run", "--topology", request.param],
        cwd=_STORE,
        env=environ,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        client = Shop(f"http://127.0.0.1:{port}")
        _await_ready(client, process, data / "log")
        yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            log.close()
    assert code == 0, (data / "log").read_text()[-2000:]


def _await_ready(client: Shop, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 30
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            if client.get("/_tenfold/ready").status == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < until, log.read_text()[-2000:]
        time.sleep(0.05)
