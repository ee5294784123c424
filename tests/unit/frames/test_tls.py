"""Calls over TCP: both ends show who they are, and addresses are found and lost again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tenfold.adapters.frames.addresses import Address, Addresses, parse_address
from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import FrameLink, connect_tls
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.frames import VERSION, FrameError, Hello, PeerUnavailableError, pack
from tenfold.ports.peers import Outgoing
from tenfold.runtimes.reach import server_tls
from tenfold.runtimes.settings import TlsSettings
from tests.unit.frames.authority import Authority
from tests.unit.frames.test_containment import OPERATIONS, Process

pytestmark = pytest.mark.anyio
CALLERS = {"gateway", "orders"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


class Served:
    """A process of the service `mill` that listens at TCP addresses of the loopback."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.process = Process(host, Path())
        self.socket = socket.create_server((host, port))
        self.socket.setblocking(False)
        self.host, self.port = self.socket.getsockname()[:2]

    async def start(self, tls: ssl.SSLContext) -> None:
        await self.process.server.listen_tls(self.socket, tls, CALLERS)

    async def stop(self) -> None:
        await self.process.server.stop(drain_s=1)
        self.socket.close()


@pytest.fixture
async def served(authority: Authority) -> AsyncIterator[Served]:
    made = Served("127.0.0.1")
    await made.start(authority.server("mill"))
    yield made
    await made.stop()


def outgoing() -> Outgoing:
    spec = OPERATIONS["mill.ask"]
    return Outgoing(operation=spec, arguments=spec.arguments(), module="mill", timeout_s=5.0)


async def test_both_ends_show_who_they_are(authority: Authority, served: Served) -> None:
    tls = authority.caller("orders")
    link = await connect_tls(served.host, served.port, tls=tls, service="mill")
    async with link:
        assert (await link.call(outgoing())).value == "127.0.0.1"
        assert link.transport is not None
        assert link.transport.get_extra_info("ssl_object").version() == "TLSv1.3"


async def test_a_caller_of_another_name_is_told_who_may_call(
    authority: Authority, served: Served
) -> None:
    tls = authority.caller("printer")
    with pytest.raises(FrameError, match="names printer, and these may call: gateway, orders"):
        await connect_tls(served.host, served.port, tls=tls, service="mill")
    assert not served.process.seen


async def test_a_caller_of_another_authority_is_not_answered(
    tmp_path: Path, authority: Authority, served: Served
) -> None:
    stranger = Authority(tmp_path / "stranger")
    tls = stranger.caller("orders")
    tls.load_verify_locations(authority.folder / "authority.pem")  # it believes us
    with pytest.raises(PeerUnavailableError, match="believe our certificate"):
        await connect_tls(served.host, served.port, tls=tls, service="mill")
    assert not served.process.seen


async def test_who_shows_no_certificate_is_not_answered(
    authority: Authority, served: Served
) -> None:
    nobody = ssl.create_default_context(cafile=str(authority.folder / "authority.pem"))
    with pytest.raises(PeerUnavailableError):
        await connect_tls(served.host, served.port, tls=nobody, service="mill")
    reader, writer = await asyncio.open_connection(served.host, served.port)
    writer.write(pack(Hello(version=VERSION)))
    assert b"mill" not in await reader.read()
    writer.close()
    assert not served.process.seen


async def test_a_process_of_another_service_is_not_asked(
    authority: Authority, served: Served
) -> None:
    tls = authority.caller("orders")
    with pytest.raises(PeerUnavailableError, match="does not show that it is the service 'bank'"):
        await connect_tls(served.host, served.port, tls=tls, service="bank")


async def test_a_process_of_another_authority_is_not_asked(tmp_path: Path, served: Served) -> None:
    tls = Authority(tmp_path / "other").caller("orders")
    with pytest.raises(PeerUnavailableError, match="`authority`"):
        await connect_tls(served.host, served.port, tls=tls, service="mill")


async def test_nobody_there_is_told_with_its_place(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tls = authority.caller("orders")
    with pytest.raises(PeerUnavailableError, match=f"127.0.0.1:{port} for the service 'mill'"):
        await connect_tls("127.0.0.1", port, tls=tls, service="mill")


async def test_whose_handshake_ends_after_the_server_has_stopped_is_not_served(
    authority: Authority, served: Served
) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.caller("orders").wrap_bio(came, goes, server_hostname="mill")
    while True:
        try:
            tls.do_handshake()
            break  # what ends it at the other end is not sent yet
        except ssl.SSLWantReadError:
            writer.write(goes.read())
            came.write(await reader.read(65536))
    await served.process.server.stop(drain_s=1)
    tls.write(pack(Hello(version=VERSION)))
    writer.write(goes.read())
    async with asyncio.timeout(3):
        with contextlib.suppress(ConnectionError):
            came.write(await reader.read())
    writer.close()
    assert not served.process.server.connections
    with pytest.raises((ssl.SSLWantReadError, ssl.SSLZeroReturnError)):
        tls.read()


async def test_a_name_stands_for_all_of_its_addresses_and_they_change(
    authority: Authority, served: Served
) -> None:
    other = Served("127.0.0.2", served.port)
    await other.start(authority.server("mill"))
    known: list[str] = ["127.0.0.1"]
    looked = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked.set()
        if not known:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return list(known)

    directory = Addresses(
        [Address(host="mill.internal", port=served.port, every=True)],
        authority.caller("orders"),
        "mill",
        links=1,
        resolve=resolve,
    )
    directory.again_s = 0.01
    remote = RemoteService("mill", directory)

    async def answers(wanted: set[str]) -> None:
        until_s = asyncio.get_running_loop().time() + 10
        while True:
            calls = [remote.call(outgoing()) for _ in range(20)]  # at once, so that all are asked
            if {each.value for each in await asyncio.gather(*calls)} == wanted:
                return
            assert asyncio.get_running_loop().time() < until_s
            await asyncio.sleep(0.005)

    try:
        await answers({"127.0.0.1"})
        known.append("127.0.0.2")
        await answers({"127.0.0.1", "127.0.0.2"})
        known.remove("127.0.0.1")
        await answers({"127.0.0.2"})
        while served.process.server.connections:
            await asyncio.sleep(0.005)
        known.clear()  # the name server is away: what was known stays
        for _ in range(2):
            looked.clear()
            await looked.wait()
        assert (await remote.call(outgoing())).value == "127.0.0.2"
    finally:
        await remote.close()
        await other.stop()


async def test_a_name_that_stands_for_nothing_is_told(authority: Authority) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    address = Address(host="mill.internal", port=7001, every=True)
    tls = authority.caller("orders")
    directory = Addresses([address], tls, "mill", links=1, resolve=resolve)
    with pytest.raises(PeerUnavailableError, match=r"mill\.internal.*not known"):
        await directory.look()


async def test_a_name_that_cannot_even_be_asked_for_is_told_and_does_not_end_the_looking(
    authority: Authority, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """`getaddrinfo` raises a UnicodeError for it, which is no OSError."""
    wrong = Address(host="a..b", port=served.port, every=True)
    directory = Addresses([wrong], authority.caller("orders"), "mill", links=1)
    with pytest.raises(PeerUnavailableError, match=r"a\.\.b: "):
        await directory.look()
    fails = [ValueError("What is this?")]

    async def resolve(host: str, port: int) -> Sequence[str]:
        if fails:
            raise fails.pop()
        return [served.host]

    address = Address(host="mill.internal", port=served.port, every=True)
    directory = Addresses([address], authority.caller("orders"), "mill", links=1, resolve=resolve)
    remote = RemoteService("mill", directory)
    try:
        assert (await remote.call(outgoing())).value == served.host
        assert "unexpected ValueError" in caplog.text
    finally:
        await remote.close()


async def test_a_place_that_cannot_be_dialled_is_told_and_dialled_again(
    authority: Authority, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    fails = [UnicodeError("label empty or too long")]

    async def dial() -> FrameLink:
        if fails:
            raise fails.pop()
        tls = authority.caller("orders")
        return await connect_tls(served.host, served.port, tls=tls, service="mill")

    remote = RemoteService("mill", Fixed({"mill": dial}, links=1))
    try:
        assert (await remote.call(outgoing())).value == served.host
        assert "unexpected UnicodeError" in caplog.text
    finally:
        await remote.close()


async def test_the_loopback_is_looked_up_for_real(authority: Authority, served: Served) -> None:
    address = Address(host="localhost", port=served.port, every=True)
    places = await Addresses([address], authority.caller("orders"), "mill", links=1).look()
    link = await places[f"127.0.0.1 {served.port}"]()
    link.close()
    await link.ended.wait()


@pytest.mark.parametrize(
    ("text", "host", "port", "every"),
    [
        ("10.0.0.5:7001", "10.0.0.5", 7001, False),
        ("[::1]:7001", "::1", 7001, False),
        ("catalog-1.internal:80", "catalog-1.internal", 80, False),
        ("dns://catalog.internal:7001", "catalog.internal", 7001, True),
        ("dns://catalog.internal.:7001", "catalog.internal.", 7001, True),
        (f"{'a' * 63}.b_c:1", f"{'a' * 63}.b_c", 1, False),
    ],
)
def test_addresses_are_read(text: str, host: str, port: int, every: bool) -> None:
    assert parse_address(text) == Address(host=host, port=port, every=every)


@pytest.mark.parametrize(
    "text",
    [
        "7001",
        "host",
        "host:",
        "host:0",
        "host:70000",
        "http://host:1",
        "::1:7001",
        "a b:1",
        "a..b:1",
        ".a:1",
        "dns://.:1",
        f"dns://{'a' * 64}.b:1",
    ],
)
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


def test_files_that_are_missing_or_do_not_fit_are_named(authority: Authority) -> None:
    one, other = authority.settings("mill"), authority.settings("orders")
    mixed = TlsSettings(certificate=one.certificate, key=other.key, authority=one.authority)
    with pytest.raises(UserMistakeError, match="go together"):
        server_tls(mixed, authority.folder)
    gone = TlsSettings(certificate="none.pem", key=one.key, authority=one.authority)
    with pytest.raises(UserMistakeError, match=r"There is no file .*none\.pem"):
        server_tls(gone, authority.folder)
