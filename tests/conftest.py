"""What every test here shares: the event loop, and the size of the long ones."""

from __future__ import annotations

from random import SystemRandom
from typing import Any

import pytest

from tests.poolers import pgbouncer_url
from tests.servers import (  # the fixtures of real servers
    own_nats,
    own_postgres,
    own_servers_folder,
    own_valkey,
    postgres_server,
    postgres_url,
    replicated_postgres,
    replicated_server,
    run_servers,
    valkey_numbers,
    valkey_server,
    valkey_url,
)

__all__ = [
    "valkey_numbers",
    "own_nats",
    "own_postgres",
    "own_servers_folder",
    "own_valkey",
    "pgbouncer_url",
    "postgres_server",
    "postgres_url",
    "replicated_postgres",
    "replicated_server",
    "run_servers",
    "valkey_server",
    "valkey_url",
]


CAMPAIGNS = {
    "test_balancers.py",
    "test_broker_kills.py",
    "test_failing_disk.py",
    "test_growth_kills.py",
    "test_import.py",
    "test_import_growth.py",
    "test_journey.py",
    "test_kills.py",
    "test_measured.py",
    "test_mixed_versions.py",
    "test_move.py",
    "test_overload.py",
    "test_pause.py",
    "test_replica_histories.py",
    "test_rolling_migration.py",
    "test_rolling_restart.py",
    "test_stopping.py",
    "test_store_processes.py",
    "test_supervisor.py",
}
"""Files of tests that run whole products for a while. They are left out of `make test`,
which is run often, and `make check` runs them one after another, with the machine to themselves."""
_FOLDERS = {"faults", "campaigns", "topologies"}
BROKERS = {
    "test_kafka_broker.py",
    "test_nats_cluster.py",
    "test_rabbitmq_broker.py",
    "test_secured.py",
}
"""Files of tests that need a broker which takes long to start. They are left out of `make test`,
which has NATS; `make test-brokers` runs them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the campaigns, before anything is left out by its marks.

    What runs whole products goes last, since they stay until the end.
    """
    for item in items:
        if item.path.name in CAMPAIGNS and item.path.parent.name in _FOLDERS:
            item.add_marker(pytest.mark.campaign)
        if item.path.name in BROKERS:
            item.add_marker(pytest.mark.brokers)
    items.sort(key=lambda item: item.path.parent.name == "topologies")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--size",
        choices=("small", "full"),
        default="small",
        help="how much the fault tests and other long ones do: small fits `make test`",
    )
    parser.addoption(
        "--seed",
        type=int,
        default=None,
        help="what chance begins with, to run a failure again; a new one each time if not given",
    )


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> str:
    """`small` or `full`, as said on the command line."""
    value: str = pytestconfig.getoption("--size")
    return value


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """What a test's random choices begin with; printed by whoever uses it."""
    given: int | None = pytestconfig.getoption("--seed")
    return SystemRandom().randrange(2**32) if given is None else given


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The loop that a product runs on."""
    return ("asyncio", {"use_uvloop": True})
