"""Where services listen, and how a process of one finds the others."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.services import Place, Sockets
from tenfold.runtimes.settings import ServiceSettings
from tenfold.runtimes.topology import Product, Topology

SERVICES = {
    "catalog": ServiceSettings(modules=("catalog",)),
    "ordering": ServiceSettings(modules=("orders", "stock")),
}


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
    product = Product(
        name="shop",
        root=tmp_path,
        modules={},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(services=SERVICES),
    )
    place = Place(service, {name: tmp_path / name for name in SERVICES})
    peers = place.peers(product)
    assert set(peers) == elsewhere
    if not service:
        assert peers["orders"] is peers["stock"]
        assert peers["orders"] is not peers["catalog"]
