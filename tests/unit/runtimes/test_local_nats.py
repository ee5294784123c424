"""The broker of a laptop: found, started, kept, and stopped."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold.adapters.nats.broker import NatsBroker
from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.broker import Bounds, BrokerUnavailableError, TopicSettings
from tenfold.runtimes.local_servers.environment import decide_given
from tenfold.runtimes.local_servers.programs import find_nats
from tenfold.runtimes.local_servers.start import running_servers, start_local_servers
from tenfold.runtimes.local_servers.state import read_state
from tenfold.runtimes.local_servers.wanted import ServerWants
from tests.servers import missing

Folder = Callable[[], Path]
BROKER = ServerWants(postgres=False, valkey=False, broker=True)
ONE = TopicSettings(partitions=1)
needs_nats = pytest.mark.skipif(
    find_nats(os.environ, ("path", "wheel")) is None and os.environ.get("CI") != "true",
    reason="NO NATS WAS FOUND, so this test did not run.",
)


@needs_nats
@pytest.mark.anyio
async def test_a_laptop_gets_a_broker_that_keeps_its_data(own_servers_folder: Folder) -> None:
    folder = own_servers_folder()
    with start_local_servers(folder, BROKER, {"PATH": ""}) as servers:
        url = servers.urls.broker_url or missing("NATS", "")
        assert servers.urls.said[0].startswith("NATS 2.")
        assert "wheel" in servers.urls.said[0]
        broker = NatsBroker(url)
        await broker.ensure("orders", ONE)
        await broker.append("orders", 0, {}, b"kept")
        with start_local_servers(folder, BROKER, {"PATH": ""}) as second:
            assert second.urls.broker_url == url
            assert "running already" in second.urls.said[0]
        found = running_servers(folder)
        assert found is not None
        assert found.broker_url == url
        assert await broker.bounds("orders") == [Bounds(first=0, after=1)]
        await broker.close()
    assert not [each for each in read_state(folder).servers if each.alive]
    with start_local_servers(folder, BROKER, {"PATH": ""}) as servers:
        assert servers.urls.broker_url == url  # the same port again
        broker = NatsBroker(url)
        assert await broker.bounds("orders") == [Bounds(first=0, after=1)]
        await broker.close()


@needs_nats
@pytest.mark.anyio
async def test_it_asks_for_a_password_and_syncs_before_it_answers(
    own_servers_folder: Folder,
) -> None:
    folder = own_servers_folder()
    with start_local_servers(folder, BROKER, {}) as servers:
        url = servers.urls.broker_url or missing("NATS", "")
        conf = folder / "nats" / "nats.conf"
        assert "sync_interval: always" in conf.read_text()
        assert stat.S_IMODE(conf.stat().st_mode) == 0o600
        stranger = NatsBroker(f"nats://{url.rpartition('@')[2]}", timeout_s=1.0)
        with pytest.raises(BrokerUnavailableError, match="Authorization"):
            await stranger.bounds("orders")
        await stranger.close()


def test_a_broker_that_the_environment_names_is_taken(tmp_path: Path) -> None:
    environ = {"TENFOLD_BROKER_URL": "kafka://me:secret@k1.example:9092,k2.example:9092"}
    with start_local_servers(tmp_path / "data", BROKER, environ) as servers:
        assert servers.urls.broker_url == environ["TENFOLD_BROKER_URL"]
        assert "k1.example:9092" in servers.urls.said[0]
        assert "secret" not in servers.urls.said[0]
    assert not (tmp_path / "data").exists()
    with pytest.raises(UserMistakeError, match="TENFOLD_BROKER_URL: found"):
        decide_given({"TENFOLD_BROKER_URL": "http://x"})


def test_without_a_broker_it_is_said_how_to_get_one(own_servers_folder: Folder) -> None:
    wants = ServerWants(postgres=False, valkey=False, broker=True, sources=())
    with start_local_servers(own_servers_folder(), wants, {}) as servers:
        assert servers.urls.broker_url is None
        assert "pip install 'tenfold[local-servers]'" in servers.urls.said[0]


def test_a_nats_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    for said, taken in (("v2.9.25", False), ("v2.10.0", True), ("v3.0.1", True)):
        folder = tmp_path / said
        folder.mkdir()
        program = folder / "nats-server"
        program.write_text(f"#!/bin/sh\necho 'nats-server: {said}'\n")
        program.chmod(0o755)
        found = find_nats({"PATH": str(folder)}, ("path",))
        assert (found is not None) is taken
