"""Where services listen, and how a process of one finds the others."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from tenfold.adapters.frames.addresses import Addresses
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.peers import Outgoing
from tenfold.runtimes.local_servers.probes import free_port
from tenfold.runtimes.processes import Splitting
from tenfold.runtimes.services import Place, Sockets, answer_at
from tenfold.runtimes.settings import ProcessSettings, ServiceSettings
from tenfold.runtimes.topology import Product, Topology
from tests.unit.frames.authority import Authority
from tests.unit.frames.test_containment import OPERATIONS, Process

SERVICES = {
    "catalog": ServiceSettings(modules=("catalog",)),
    "ordering": ServiceSettings(modules=("orders", "stock")),
}


def product_of(root: Path, topology: Topology) -> Product:
    return Product(
        name="shop", root=root, modules={}, mounts={}, seed=None, settings={}, topology=topology
    )


def test_each_service_has_a_socket_of_its_owner_s(tmp_path: Path) -> None:
    sockets = Sockets(tmp_path, SERVICES)
    paths = {name: Path(path) for name, path in sockets.paths.items()}
    assert set(paths) == set(SERVICES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths.values()} == {0o600}
    assert sockets.of("catalog").fileno() != sockets.of("ordering").fileno()
    sockets.close()
    assert not any(path.exists() for path in paths.values())


def test_a_path_that_is_too_long_is_told_before_anything_is_bound(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    with pytest.raises(UserMistakeError, match="too long a path"):
        Sockets(folder, SERVICES)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("service", "elsewhere"),
    [
        ("", {"catalog", "orders", "stock"}),
        ("catalog", {"orders", "stock"}),
        ("ordering", {"catalog"}),
    ],
)
def test_a_process_asks_others_for_what_it_does_not_host(
    tmp_path: Path, service: str, elsewhere: set[str]
) -> None:
    product = product_of(tmp_path, Topology(services=SERVICES))
    place = Place(service, {name: tmp_path / name for name in SERVICES})
    peers = place.peers(product)
    assert set(peers) == elsewhere
    if not service:
        assert peers["orders"] is peers["stock"]
        assert peers["orders"] is not peers["catalog"]


def test_what_is_split_is_hosted_here_too_and_shared_out(tmp_path: Path) -> None:
    processes = ProcessSettings(modules=("mill",))
    product = product_of(tmp_path, Topology(services=SERVICES, processes=processes))
    sockets = {name: tmp_path / name for name in ("web", *SERVICES)}
    place = Place("", sockets, Splitting(service="ordering", share=0.25))
    assert set(place.peers(product)) == {"catalog"}
    assert set(place.splits) == {"orders", "stock"}
    assert place.splits["orders"] is place.splits["stock"]
    assert place.splits["orders"].share == 0.25
    assert isinstance(place.splits["orders"].service, RemoteService)
    elsewhere = Place("ordering", sockets).peers(product)
    assert set(elsewhere) == {"catalog", "mill"}, "web processes that host modules are called too"


def test_sockets_come_and_go_while_others_stay(tmp_path: Path) -> None:
    sockets = Sockets(tmp_path, {"catalog": SERVICES["catalog"]})
    first = sockets.of("catalog")
    sockets.add(SERVICES)
    assert sockets.of("catalog") is first
    assert set(sockets.paths) == set(SERVICES)
    sockets.close_others({"catalog"})
    assert (sockets.of("catalog"), sockets.of("ordering")) == (first, None)
    assert [path.name for path in tmp_path.iterdir()] == ["service-catalog.sock"]
    sockets.close()
    assert not list(tmp_path.iterdir())


def test_one_that_cannot_be_bound_takes_none_of_the_others_away(tmp_path: Path) -> None:
    sockets = Sockets(tmp_path, {"catalog": SERVICES["catalog"]})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        mill = ServiceSettings(modules=("mill",), listen=listen)
        with pytest.raises(UserMistakeError, match="cannot listen"):
            sockets.add({**SERVICES, "mill": mill})
    assert sockets.of("catalog") is not None
    assert sockets.of("ordering") is None
    assert [path.name for path in tmp_path.iterdir()] == ["service-catalog.sock"]
    sockets.close()


def test_certificates_are_read_once_for_all_services_elsewhere(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    services = {
        name: ServiceSettings(modules=(name,), replicas=0, addresses=(f"10.0.0.{at}:7001",))
        for at, name in enumerate(("mill", "bakery", "shop"), 5)
    }
    topology = Topology(services=services, tls=authority.settings("gateway"))
    peers = Place("", {}).peers(product_of(authority.folder, topology))
    remotes = [peer for peer in peers.values() if isinstance(peer, RemoteService)]
    directories = [remote._connections._directory for remote in remotes]
    contexts = [each._tls for each in directories if isinstance(each, Addresses)]
    assert len(contexts) == 3
    assert len({id(each) for each in contexts}) == 1


def test_what_runs_elsewhere_is_not_listened_for_here(tmp_path: Path) -> None:
    away = ServiceSettings(modules=("mill",), replicas=0, addresses=("10.0.0.5:7001",))
    sockets = Sockets(tmp_path, {**SERVICES, "mill": away})
    assert set(sockets.paths) == set(SERVICES)
    sockets.close()


def test_an_address_that_is_taken_is_told_and_nothing_stays_bound(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        mill = ServiceSettings(modules=("mill",), listen=listen)
        with pytest.raises(UserMistakeError, match=f"'mill' cannot listen at {listen}"):
            Sockets(tmp_path, {**SERVICES, "mill": mill})
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_a_service_that_listens_at_an_address_is_found_there(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "tls")
    services = {
        **SERVICES,
        "mill": ServiceSettings(modules=("mill",), listen=f"0.0.0.0:{free_port()}"),
    }
    tls = authority.settings("mill", "gateway")
    product = product_of(authority.folder, Topology(services=services, tls=tls))
    sockets = Sockets(tmp_path, services)
    process = Process("one", tmp_path)
    await answer_at(process.server, sockets.of("mill"), product, "mill")
    place = Place("", {name: Path(path) for name, path in sockets.paths.items()})
    mill = place.peers(product)["mill"]
    assert isinstance(mill, RemoteService)
    try:
        spec = OPERATIONS["mill.ask"]
        outgoing = Outgoing(operation=spec, arguments=spec.arguments(), module="mill")
        assert (await mill.call(outgoing)).value == "one"
    finally:
        await place.close()
        await process.server.stop(drain_s=1)
        sockets.close()
