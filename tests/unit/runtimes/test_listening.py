"""What keeps a product from serving is told before anything is left running."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.runtimes.listening import PortInUseError
from tenfold.runtimes.server import MountNotStartedError, serve
from tenfold.runtimes.settings import HttpLimits
from tenfold.runtimes.topology import Product, Topology


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """What is served here ignores signals when it has ended, as the end of a process does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def product(folder: Path, port: int, mounts: dict[str, Any]) -> Product:
    return Product(
        name="empty",
        root=folder,
        modules={},
        mounts=mounts,
        seed=None,
        settings={},
        topology=Topology(http=HttpLimits(port=port)),
        data_dir=folder / "data",
    )


def ours() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("tenfold-")]


def test_a_port_that_another_listens_on_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"listens on 127.0.0.1:{port}"):
            serve(product(tmp_path, port, {}))
    assert ours() == []


def test_a_mount_that_does_not_start_ends_the_product(tmp_path: Path) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "not today"})

    with pytest.raises(MountNotStartedError, match="did not start, so the product was stopped"):
        serve(product(tmp_path, 0, {"/": lambda: app}))
    assert ours() == []
