"""The store under each topology, as a process of its own, reached over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.brokers.servers import kafka_server, rabbitmq_server
from tests.faults.store_process import StoreProcess, free_port
from tests.topologies.shop_client import Shop


def processes(topology: str, web: int, workers: int) -> dict[str, str]:
    return {
        "TENFOLD_TOPOLOGY": topology,
        "TENFOLD_PROCESSES__WEB": str(web),
        "TENFOLD_PROCESSES__WORKERS": str(workers),
    }


# Growth has servers of its own, found or started as on a laptop: PostgreSQL with a replica, and
# Valkey. Its whole fleet runs with the campaigns, with the machine to itself.
TOPOLOGIES = [
    pytest.param({"TENFOLD_TOPOLOGY": "prototype"}, id="prototype"),
    # It would not end with 0 if anything of the store were not safe to repeat.
    pytest.param({"TENFOLD_TOPOLOGY": "twice"}, id="twice"),
    pytest.param(processes("growth", web=2, workers=1), id="growth"),
    # Two gateways before four services, on servers of its own too, a NATS among them.
    pytest.param({"TENFOLD_TOPOLOGY": "scale"}, id="scale"),
    pytest.param(
        {"TENFOLD_TOPOLOGY": "scale", "broker": "kafka"},
        id="scale on kafka",
        marks=pytest.mark.brokers,
    ),
    pytest.param(
        {"TENFOLD_TOPOLOGY": "scale", "broker": "rabbitmq"},
        id="scale on rabbitmq",
        marks=pytest.mark.brokers,
    ),
    pytest.param(
        processes("growth", web=4, workers=2), id="growth of six", marks=pytest.mark.campaign
    ),
]


# Web processes that host modules, beside services: what they call, and what calls them.
BESIDE = {
    **processes("growth", web=2, workers=1),
    "TENFOLD_PROCESSES__MODULES": "catalog, payments, notifications, insights",
    "TENFOLD_SERVICES__ORDERING__MODULES": "orders, inventory",
}
TOPOLOGIES.append(
    pytest.param(BESIDE, id="growth and a service", marks=pytest.mark.campaign),
)
BROKERS = {"kafka": kafka_server, "rabbitmq": rabbitmq_server}


@pytest.fixture(scope="session", params=TOPOLOGIES)
def shop(request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A client of the running store; every test of the session shares it."""
    settings = dict(request.param)
    broker = settings.pop("broker", None)
    with ExitStack() as beside:
        if broker is not None:
            server = beside.enter_context(BROKERS[broker]())
            settings["TENFOLD_BROKER_URL"] = server.url
        yield from running_shop(settings)


def running_shop(settings: dict[str, str]) -> Iterator[Shop]:
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
