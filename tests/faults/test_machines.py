"""The store as services of two machines, which reach one another over TLS."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.faults.placing import Orders, await_settled, command
from tests.faults.store_process import NoAnswerError, StoreProcess, Wire, free_port
from tests.unit.frames.authority import Authority

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(300)]
FRONT = ("ordering",)
"""The services of the machine that has the gateways."""
BACK = ("catalog", "payments", "reporting")
START_S = 120.0
Machine = tuple[StoreProcess, dict[str, str]]


@pytest.fixture
def machines(tmp_path: Path, postgres_url: str) -> Iterator[list[Machine]]:
    """The front one and the other, each with a data directory and a certificate of its own."""
    authority = Authority(tmp_path / "tls")
    ports = {service: free_port() for service in (*FRONT, *BACK)}
    started: list[Machine] = []
    for here, names in (("back", BACK), ("front", FRONT)):
        tls = authority.settings(*names, *(["gateway"] if here == "front" else []))
        settings = {
            "TENFOLD_TOPOLOGY": "scale",
            "TENFOLD_DATABASE_URL": postgres_url,
            "TENFOLD_PROCESSES__WEB": "2" if here == "front" else "0",
            "TENFOLD_TLS__CERTIFICATE": str(authority.folder / tls.certificate),
            "TENFOLD_TLS__KEY": str(authority.folder / tls.key),
            "TENFOLD_TLS__AUTHORITY": str(authority.folder / tls.authority),
        }
        for service, port in ports.items():
            prefix = f"TENFOLD_SERVICES__{service.upper()}__"
            settings[f"{prefix}LISTEN"] = f"127.0.0.1:{port}"
            settings[f"{prefix}ADDRESSES"] = f"dns://localhost:{port}"
            settings[f"{prefix}REPLICAS"] = str(
                (2 if service == "catalog" else 1) if service in names else 0
            )
        started.append((StoreProcess(tmp_path / here, free_port(), settings=settings), settings))
    try:
        yield started[::-1]
    finally:
        for process, _ in started:
            process.kill()


def await_serving(front: StoreProcess) -> None:
    """Until the catalogue answers through a gateway."""
    assert front.await_ready(START_S), front.tail()
    wire, until = Wire(front.port), time.monotonic() + START_S
    while True:
        try:
            if wire.get("/v1/products?limit=1").status == 200:
                wire.close()
                return
        except NoAnswerError:
            pass
        assert time.monotonic() < until, front.tail()
        time.sleep(0.05)


def pid_of(name: str, machine: Machine) -> int:
    process, settings = machine
    rows: list[Any] = msgspec.json.decode(command(settings, process.data, "processes", "--json"))
    found: int = {row["name"]: row["pid"] for row in rows}[name]
    return found


def test_orders_go_on_while_a_machine_s_processes_are_killed_and_replaced(
    machines: list[Machine],
) -> None:
    (front, _), (back, back_settings) = machines
    await_serving(front)
    with Orders(front.port) as orders:
        orders.await_placed(10)
        os.kill(pid_of("catalog-1", machines[1]), signal.SIGKILL)
        orders.await_placed(10)
        assert "All processes are new." in command(back_settings, back.data, "restart")
        orders.await_placed(10)
    assert orders.failures == []
    assert len(set(orders.placed)) == len(orders.placed)
    await_settled(front, orders.placed)
    for process in (front, back):
        assert process.stop() == 0, process.tail()
