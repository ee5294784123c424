"""NATS over TLS: believed by the authority that the environment names, and by no other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tenfold.adapters.nats.broker import NatsBroker
from tenfold.ports.broker import BrokerUnavailableError, TopicSettings
from tenfold.runtimes.local_servers.probes import free_port, probe_nats
from tenfold.runtimes.local_servers.programs import find_nats
from tests.servers import OwnNats, missing

pytestmark = pytest.mark.anyio
_CONF = """\
host: 127.0.0.1
port: {port}
jetstream {{ store_dir: "{folder}/data" }}
tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key" }}
authorization {{ user: "me", password: "secret" }}
"""


class Secured(NamedTuple):
    url: str
    authority: Path


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    program = find_nats(os.environ, ("path", "wheel"))
    if program is None:
        missing("NATS", "It comes as a wheel with `make test`, or put `nats-server` on the PATH.")
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    shown = authority.issue_cert("localhost")
    shown.private_key_pem.write_to_path(tmp_path / "server.key")
    (tmp_path / "server.pem").write_bytes(b"".join(p.bytes() for p in shown.cert_chain_pems))
    conf = tmp_path / "nats.conf"
    conf.write_text(_CONF.format(port=port, folder=tmp_path))
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([program.path, "-c", conf], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 20
        while probe_nats(port) != "ready":
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < until, (tmp_path / "log").read_text()
            time.sleep(0.02)
        yield Secured(f"tls://me:secret@localhost:{port}", tmp_path / "authority.pem")
    finally:
        server.kill()
        server.wait()


async def test_what_is_kept_and_read_travels_over_tls(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority))
    broker = NatsBroker(secured.url, timeout_s=5.0)
    await broker.ensure("t", TopicSettings(partitions=1))
    await broker.append("t", 0, {"a": "b"}, b"hello")
    reader = await broker.reader("t", [0])
    async with asyncio.timeout(10):
        (record,) = await reader.take(wait_s=10)
    assert (record.body, record.headers) == (b"hello", {"a": "b"})
    client = await broker._connection.client()
    assert client._transport is not None
    writer = client._transport._io_writer  # type: ignore[attr-defined]
    assert writer.get_extra_info("ssl_object") is not None
    await reader.close()
    await broker.close()


async def test_a_server_of_an_authority_that_is_not_known_is_not_believed(
    secured: Secured,
) -> None:
    broker = NatsBroker(secured.url, timeout_s=1.0)
    with pytest.raises(BrokerUnavailableError, match="certificate verify failed") as raised:
        await broker.ensure("t", TopicSettings(partitions=1))
    assert "secret" not in str(raised.value)
    await broker.close()


async def test_a_server_that_does_not_speak_it_is_refused_where_it_is_asked_for(
    own_nats: Callable[..., OwnNats],
) -> None:
    plain = own_nats().url
    broker = NatsBroker(plain.replace("nats://", "tls://"), timeout_s=2.0)
    with pytest.raises(BrokerUnavailableError, match="does not speak TLS"):
        await broker.ensure("t", TopicSettings(partitions=1))
    await broker.close()
