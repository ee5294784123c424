"""NATS over TLS: believed by the authority that the environment names, and by no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tenfold.adapters.nats.broker import NatsBroker
from tenfold.ports.broker import BrokerUnavailableError, TopicSettings
from tenfold.runtimes.local_servers.probes import free_port
from tests.brokers.servers import BrokerServer, Tls, nats_node
from tests.servers import OwnNats

pytestmark = pytest.mark.anyio
_CONF = """\
host: 127.0.0.1
port: {port}
jetstream {{ store_dir: "{folder}/data" }}
authorization {{ user: "me", password: "secret" }}
"""
_TLS = 'tls {{ cert_file: "{shown}", key_file: "{shown}" }}\n'


class Secured:
    """A server that speaks TLS, until it is started again without."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder / "nats", free_port()
        tls = Tls(folder / "tls")
        self.url = f"tls://me:secret@localhost:{self._port}"
        self.authority = tls.folder / "authority.pem"
        self.server = self._node(_TLS.format(shown=tls.folder / "server.pem"))

    def _node(self, tls: str) -> BrokerServer:
        conf = _CONF.format(port=self._port, folder=self._folder) + tls
        return nats_node(self._folder, self._port, conf)

    def restart_without(self) -> None:
        self.server.kill()
        self.server = self._node("")
        self.server.start()


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    made = Secured(tmp_path)
    made.server.start()
    yield made
    made.server.kill()


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


async def test_nor_is_one_that_speaks_it_no_more_when_it_comes_back(
    secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.authority))
    broker = NatsBroker(secured.url, timeout_s=2.0)
    await broker.ensure("t", TopicSettings(partitions=1))
    secured.restart_without()
    async with asyncio.timeout(20):
        while True:
            with pytest.raises(BrokerUnavailableError) as raised:
                await broker.append("t", 0, {}, b"in clear")
            if "does not speak TLS" in str(raised.value):
                break
            await asyncio.sleep(0.05)
    await broker.close()
