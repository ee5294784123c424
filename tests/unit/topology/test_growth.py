"""What a topology on PostgreSQL may and may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.adapters.frames.addresses import Address
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.processes import decide_processes
from tenfold.runtimes.reach import addresses_of
from tenfold.runtimes.topology import Topology, read_product_file


def read(folder: Path, text: str, name: str = "growth", **environ: str) -> Topology:
    head = 'name = "shop"\n[modules]\norders = "shop:Orders"\n'
    (folder / "tenfold.toml").write_text(head + text)
    return read_product_file(folder, name, environ=environ).topology


def mistake(folder: Path, text: str, name: str = "growth", **environ: str) -> str:
    with pytest.raises(UserMistakeError) as caught:
        read(folder, text, name, **environ)
    return str(caught.value)


def test_growth_is_on_postgres_and_the_prototype_on_sqlite(tmp_path: Path) -> None:
    text = "[topologies.growth]\n[topologies.prototype]\n"
    growth = read(tmp_path, text)
    assert (growth.database.kind, growth.shared) == ("postgres", True)
    prototype = read(tmp_path, text, "prototype")
    assert (prototype.database.kind, prototype.shared) == ("sqlite", False)


def test_any_topology_may_say_its_kind(tmp_path: Path) -> None:
    text = '[topologies.live.database]\nkind = "postgres"\n'
    assert read(tmp_path, text, "live").shared


def test_urls_come_from_the_environment(tmp_path: Path) -> None:
    topology = read(
        tmp_path,
        "[topologies.growth]\n",
        TENFOLD_DATABASE_URL="postgresql://db/shop",
        TENFOLD_REPLICA_URLS="postgresql://r1/shop, postgresql://r2/shop",
        TENFOLD_CACHE_URL="valkey://cache",
        TENFOLD_PROCESSES__WEB="4",
    )
    assert topology.database.url == "postgresql://db/shop"
    assert topology.database.replicas == ("postgresql://r1/shop", "postgresql://r2/shop")
    assert topology.cache.url == "valkey://cache"
    assert topology.processes.web == 4


@pytest.mark.parametrize("key", ["web", "workers"])
def test_sqlite_has_one_process(tmp_path: Path, key: str) -> None:
    said = mistake(tmp_path, f"[topologies.prototype.processes]\n{key} = 2\n", "prototype")
    assert "line 5" in said
    assert 'kind = "postgres"' in said


def test_sqlite_has_no_url(tmp_path: Path) -> None:
    text = '[topologies.prototype.database]\nurl = "postgresql://db/shop"\n'
    assert "has no url" in mistake(tmp_path, text, "prototype")


def test_a_machine_has_at_least_one_process(tmp_path: Path) -> None:
    text = "[topologies.growth.processes]\nweb = 0\nworkers = 0\n"
    assert "neither web nor worker" in mistake(tmp_path, text)


def test_behind_a_pooler_the_server_itself_is_named_too(tmp_path: Path) -> None:
    text = '[topologies.growth.database]\nurl = "postgresql://pool/x"\npooler = "transaction"\n'
    assert "direct_url" in mistake(tmp_path, text)
    text += 'direct_url = "postgresql://server/x"\n'
    assert read(tmp_path, text).database.session_url == "postgresql://server/x"


WEB = '[topologies.scale.processes]\nmodules = ["orders"]\n'
SERVICE = '[topologies.scale.services.shop]\nmodules = ["orders"]\n'


def test_services_share_out_the_modules(tmp_path: Path) -> None:
    topology = read(tmp_path, SERVICE + "replicas = 2\n", "scale")
    assert topology.services["shop"].modules == ("orders",)
    assert (topology.services["shop"].replicas, topology.services["shop"].workers) == (2, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SERVICE.replace("orders", "ordres"), "host 'ordres'"),
        (
            SERVICE + SERVICE.replace("shop", "more"),
            "the service 'more' is to host 'orders', and so the service 'shop' is",
        ),
        (SERVICE + "[topologies.scale.processes]\nworkers = 1\n", "each service's own"),
        (SERVICE + "[topologies.scale.processes]\nweb = 0\n", "no gateway"),
        (SERVICE + WEB, "the service 'shop' is to host 'orders', and so the web processes are"),
        (WEB, "has no services, so that its processes host all modules"),
        (WEB.replace("orders", "ordres") + SERVICE, "the web processes are to host 'ordres'"),
        (SERVICE + '[topologies.scale.database]\nkind = "sqlite"\n', "has services"),
        (SERVICE.replace('["orders"]', "[]"), "modules"),
    ],
)
def test_services_that_do_not_are_told(tmp_path: Path, text: str, said: str) -> None:
    told = mistake(tmp_path, text, "scale")
    assert "tenfold.toml" in told
    assert said in told


TLS = """
[topologies.scale.tls]
certificate = "m.pem"
key = "m.key"
authority = "a.pem"
"""


def test_services_on_other_machines(tmp_path: Path) -> None:
    elsewhere = 'replicas = 0\naddresses = ["dns://shop.internal:7001", "10.0.0.5:7001"]\n'
    shop = read(tmp_path, SERVICE + elsewhere + TLS, "scale").services["shop"]
    assert addresses_of(shop) == (
        Address(host="shop.internal", port=7001, every=True),
        Address(host="10.0.0.5", port=7001),
    )
    alone = SERVICE + 'listen = "0.0.0.0:7001"\n' + TLS + "[topologies.scale.processes]\nweb = 0\n"
    shop = read(tmp_path, alone, "scale").services["shop"]
    assert addresses_of(shop) == (Address(host="127.0.0.1", port=7001),)


def test_a_machine_says_by_variables_which_services_run_there(tmp_path: Path) -> None:
    (tmp_path / "tenfold.toml").write_text(
        'name = "shop"\n[modules]\norders = "shop:Orders"\n'
        + SERVICE
        + 'addresses = ["10.0.0.5:7001"]\n'
        + TLS
    )
    environ = {"TENFOLD_SERVICES__SHOP__REPLICAS": "0", "TENFOLD_TLS__KEY": "/run/machine.key"}
    topology = read_product_file(tmp_path, "scale", environ=environ).topology
    assert topology.services["shop"].replicas == 0
    assert topology.tls.key == "/run/machine.key"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SERVICE + 'listen = "7001"\n' + TLS, "'7001' is not an address"),
        (SERVICE + 'listen = "dns://shop:7001"\n' + TLS, "listen at a name"),
        (SERVICE + 'addresses = ["shop"]\n' + TLS, "'shop' is not an address"),
        (SERVICE + 'listen = "127.0.0.1:7001"\n', "no certificate and no key and no authority"),
        (
            SERVICE + 'listen = "0.0.0.0:7001"\n' + TLS.replace("key", "cert"),
            "`tls.cert` is not known",
        ),
        (SERVICE + "replicas = 0\n", "none is known elsewhere"),
        (SERVICE + 'addresses = ["10.0.0.5:7001"]\n' + TLS, "on this machine listen at none"),
        (
            SERVICE
            + 'replicas = 0\nlisten = "127.0.0.1:7001"\naddresses = ["10.0.0.5:7001"]\n'
            + TLS
            + "[topologies.scale.processes]\nweb = 0\n",
            "no gateway, no replica and no worker of a service",
        ),
        (SERVICE.replace("shop", "gateway") + 'listen = "127.0.0.1:7001"\n' + TLS, "otherwise"),
    ],
)
def test_services_that_cannot_be_reached_or_by_anybody_are_told(
    tmp_path: Path, text: str, said: str
) -> None:
    told = mistake(tmp_path, text, "scale")
    assert "tenfold.toml" in told
    assert said in told


TWO = 'name = "shop"\n[modules]\norders = "shop:Orders"\nstock = "shop:Stock"\n'
STOCK = SERVICE.replace("orders", "stock")


def test_web_processes_may_host_what_no_service_does(tmp_path: Path) -> None:
    (tmp_path / "tenfold.toml").write_text(TWO + WEB + "web = 2\nworkers = 1\n" + STOCK)
    topology = read_product_file(tmp_path, "scale", environ={}).topology
    assert {name: group.modules for name, group in topology.groups.items()} == {
        "web": ("orders",),
        "shop": ("stock",),
    }
    planned = decide_processes(topology.processes, topology.services)
    assert [(p.name, p.service, p.serves) for p in planned] == [
        ("web-1", "", True),
        ("web-2", "", True),
        ("worker-1", "", False),
        ("shop-1", "shop", False),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WEB + "web = 0\n" + STOCK, "the web processes of the topology 'scale' host modules"),
        (WEB + STOCK.replace("shop", "worker"), "'worker' is what the processes are called"),
        (
            WEB + STOCK + 'replicas = 0\naddresses = ["127.0.0.1:7001"]\n',
            "'shop' is on other machines too",
        ),
        (WEB + STOCK + 'listen = "127.0.0.1:7001"\n', "'shop' is on other machines too"),
    ],
)
def test_what_they_cannot_do_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "tenfold.toml").write_text(TWO + text)
    with pytest.raises(UserMistakeError, match=said):
        read_product_file(tmp_path, "scale", environ={})


def test_a_module_without_a_service_is_named(tmp_path: Path) -> None:
    (tmp_path / "tenfold.toml").write_text(TWO + SERVICE)
    with pytest.raises(UserMistakeError, match="no service hosts stock"):
        read_product_file(tmp_path, "scale", environ={})
