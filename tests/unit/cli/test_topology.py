"""`tenfold topology`: on the store, whose picture is known, and on a product with mistakes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tenfold.cli.entry import main
from tenfold.runtimes.pictures.mermaid import render_mermaid
from tenfold.runtimes.pictures.plan import decide_picture, place_of
from tenfold.runtimes.settings import ProcessSettings
from tenfold.runtimes.topology import import_product, read_product_file
from tests.faults.store_process import STORE

SCALE = """\
store · topology scale

answers
  HTTP on 127.0.0.1:8000  2 gateways

hosts
  catalog    1 replica  catalog
  ordering   1 replica  orders, inventory
  payments   1 replica  payments
  reporting  1 replica  insights, notifications

on
  database  PostgreSQL, a schema for each module, found or started on this machine
  replicas  1 read replica beside it
  cache     Valkey, found or started on this machine
  broker    NATS JetStream, found or started on this machine

calls
  inventory  → catalog  by frames
  orders     → catalog  by frames
"""


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TENFOLD_TOPOLOGY", "TENFOLD_DATA", "PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TENFOLD_PRODUCT", str(STORE))


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(["topology", *arguments]) == code
    return capsys.readouterr().out


def test_a_topology_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "show", "--topology", "scale")
    assert text.startswith(SCALE)
    events = text.partition("events\n")[2]
    assert "  payments.PaymentDeclined  → orders." in events
    alone = told(capsys, "show")
    assert "one process, which answers and does the background work" in alone
    assert "inventory  → catalog  in the process" in alone
    assert "SQLite, a file for each module, in .tenfold" in alone


def test_it_is_drawn_for_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "show", "--topology", "scale", "--format", "mermaid").splitlines()
    assert lines[0] == "flowchart LR"
    assert '  subgraph g1 ["ordering: 1 replica"]' in lines
    assert "  m_orders --> m_catalog" in lines
    assert '  m_inventory -. "StockReserved" .-> m_payments' in lines
    assert "  gateways --> g3" in lines


def test_it_is_drawn_as_an_image_in_which_nothing_overlaps(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "scale.svg"
    assert told(capsys, "show", "--topology", "scale", "--format", "svg", "--out", str(file))
    root = ET.parse(file).getroot()
    name = "{http://www.w3.org/2000/svg}"
    words = ["".join(text.itertext()) for text in root.iter(f"{name}text")]
    for word in ("catalog", "ordering · 1 replica", "2 gateways", "OrderPlaced", "events"):
        assert word in words
    boxes = [rect.attrib for rect in root.iter(f"{name}rect") if rect.get("class") == "box"]
    assert len(boxes) == 2 + 6 + 4
    tall = sorted((float(b["y"]), float(b["y"]) + float(b["height"])) for b in boxes)
    assert all(one[1] <= other[0] for one, other in pairwise(tall))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(float(b["x"]) + float(b["width"]) <= width for b in boxes)
    assert tall[-1][1] < height


def test_programs_get_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    picture = json.loads(told(capsys, "show", "--topology", "scale", "--json"))
    assert picture["groups"][1] == {
        "name": "ordering",
        "processes": "1 replica",
        "modules": ["orders", "inventory"],
    }
    assert {"caller": "orders", "callee": "catalog", "remote": True} in picture["calls"]


def test_no_password_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENFOLD_DATABASE_URL", "postgresql://me:secret@db.example:5433/shop")
    monkeypatch.setenv("TENFOLD_CACHE_URL", "valkey://:secret@cache.example:6379/2")
    text = told(capsys, "show", "--topology", "growth")
    assert "PostgreSQL, a schema for each module, at db.example:5433/shop" in text
    assert "Valkey, at cache.example:6379/2" in text
    changes = told(capsys, "diff", "prototype", "growth")
    monkeypatch.setenv("TENFOLD_BROKER_URL", "kafka://me:secret@one.example:9,two.example:9")
    brokered = told(capsys, "show", "--topology", "scale")
    assert "Kafka, for events between services, at one.example:9,two.example:9" in brokered
    assert "secret" not in text + brokered + changes


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("nats://u:secret@a:4222,nats://u:secret@b:4222", "a:4222,b:4222"),
        ("nats://u:secret@a:4222, tls://u:secret@b:4222/", "a:4222,b:4222"),
        ("nats://u:secret@a:4222,u:secret@b:4222", "b:4222"),
        ("kafka://me:se,secret@one:9,two:9", "one:9,two:9"),
        ("amqp://me:secret/secret@one:9/shop", "one:9/shop"),
        ("postgresql://me:secret@db:5433/shop?password=secret", "db:5433/shop"),
        ("postgresql:///shop?host=/run", "this machine/shop"),
        ("nats://me:secret?secret@one:9", "a place that is not shown"),
        ("nats://me:secret#secret@one:9", "a place that is not shown"),
        ("nats://one:9/?password=a@secret", "a place that is not shown"),
    ],
)
def test_nor_is_one_of_several_servers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str, place: str
) -> None:
    assert place_of(url) == place
    monkeypatch.setenv("TENFOLD_BROKER_URL", url)
    shown = told(capsys, "show", "--topology", "scale")
    assert f", for events between services, at {place}\n" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("scheme", "kind"), [("amqps", "RabbitMQ"), ("tls", "NATS JetStream"), ("foo", "a broker")]
)
def test_a_broker_is_named_by_any_of_its_schemes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, scheme: str, kind: str
) -> None:
    monkeypatch.setenv("TENFOLD_BROKER_URL", f"{scheme}://one.example:9")
    assert f"{kind}, for events" in told(capsys, "show", "--topology", "scale")


def test_gateways_and_web_processes_that_are_not_there_are_not_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENFOLD_PROCESSES__WEB", "0")
    monkeypatch.setenv("TENFOLD_PROCESSES__WORKERS", "1")
    assert "  all  1 worker " in told(capsys, "show", "--topology", "growth")
    monkeypatch.delenv("TENFOLD_PROCESSES__WORKERS")
    product = import_product(read_product_file(STORE, "scale", environ={}))
    none = msgspec.structs.replace(product.topology, processes=ProcessSettings(web=0))
    picture = decide_picture(msgspec.structs.replace(product, topology=none))
    assert picture.gateways == ""
    assert "gateway" not in render_mermaid(picture)


def test_what_changes_is_told_in_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "diff", "growth", "scale").splitlines()
    assert lines == [
        "2 gateways take the requests, and host no module.",
        "The service catalog comes, with 1 replica: catalog.",
        "The service ordering comes, with 1 replica: orders, inventory.",
        "The service payments comes, with 1 replica: payments.",
        "The service reporting comes, with 1 replica: insights, notifications.",
        "No process hosts all modules any more.",
        "broker comes: NATS JetStream, found or started on this machine.",
    ]
    lines = told(capsys, "diff", "scale", "growth").splitlines()
    assert lines[-1] == "broker goes: NATS JetStream, found or started on this machine."
    assert "replicas go: 1 read replica beside it." in told(capsys, "diff", "growth", "prototype")
    lines = told(capsys, "diff", "prototype", "growth").splitlines()
    assert lines[0] == (
        "The data moves from SQLite to PostgreSQL: `tenfold move --from prototype --to growth`."
    )
    assert lines[1].startswith("All modules: 2 web processes and 1 worker, in place of one process")
    assert [line.partition(" ")[0] for line in lines[2:]] == ["database:", "cache:", "replicas"]
    assert not any("place of nothing" in line or "place of []" in line for line in lines)
    assert told(capsys, "diff", "scale", "scale") == "scale and scale are alike.\n"


def test_modules_that_move_and_settings_are_told(pad: Any) -> None:
    with (pad.root / "tenfold.toml").open("a") as file:
        file.write(
            "[topologies.one.database]\nkind = 'postgres'\n"
            "[topologies.one.services.a]\nmodules = ['notes']\n"
            "[topologies.two.database]\nkind = 'postgres'\npool = 20\n"
            "[topologies.two.services.b]\nmodules = ['notes']\nreplicas = 3\nworkers = 2\n"
        )
    assert pad("topology", "diff", "one", "two").stdout.splitlines() == [
        "The service b comes, with 3 replicas and 2 workers: notes.",
        "The service a goes.",
        "notes moves from the service a to b.",
        "database.pool is 20 in place of 10.",
    ]


BESIDE = """\
store · topology growth

answers
  HTTP on 127.0.0.1:8000

hosts
  web   2 web processes and 1 worker  catalog, inventory, orders, notifications, insights
  cash  1 replica                     payments

on
  database  PostgreSQL, a schema for each module, found or started on this machine
  replicas  1 read replica beside it
  cache     Valkey, found or started on this machine

calls
  inventory  → catalog  in the process
"""


def test_web_processes_that_host_modules_beside_services_are_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = "catalog, inventory, orders, notifications, insights"
    monkeypatch.setenv("TENFOLD_PROCESSES__MODULES", hosted)
    monkeypatch.setenv("TENFOLD_SERVICES__CASH__MODULES", "payments")
    assert told(capsys, "show", "--topology", "growth").startswith(BESIDE)


def test_what_changes_with_a_split_is_told(pad: Any) -> None:
    with (pad.root / "tenfold.toml").open("a") as file:
        file.write(
            "[topologies.one.database]\nkind = 'postgres'\n[topologies.one.processes]\nweb = 2\n"
            "[topologies.two.database]\nkind = 'postgres'\n[topologies.two.processes]\nweb = 3\n"
            "modules = ['notes']\n[topologies.two.services.a]\nmodules = ['more']\n"
            "[topologies.three.database]\nkind = 'postgres'\n"
            "[topologies.three.services.a]\nmodules = ['more', 'notes']\n"
        )
    text = (pad.root / "tenfold.toml").read_text()
    more = text.replace("[modules]", '[modules]\nmore = "padkit.more:MoreModule"')
    (pad.root / "tenfold.toml").write_text(more)
    (pad.root / "padkit" / "more_contract.py").write_text(
        "from typing import Protocol\nfrom tenfold import Contract\n\n\n"
        "class More(Contract, Protocol):\n    pass\n"
    )
    (pad.root / "padkit" / "more.py").write_text(
        "from padkit.more_contract import More\n\n\nclass MoreModule(More):\n    pass\n"
    )
    assert pad("topology", "diff", "one", "two").stdout.splitlines() == [
        "The web processes: 3 web processes, in place of 2 web processes.",
        "The service a comes, with 1 replica: more.",
    ]
    there = pad("topology", "diff", "two", "three").stdout.splitlines()
    assert "The web processes host no module any more." in there
    back = pad("topology", "diff", "three", "two").stdout.splitlines()
    assert "The web processes host modules: notes. There are 3 web processes." in back


def test_that_messages_come_more_than_once_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "diff", "prototype", "twice") == (
        "Calls go over a socket and every message is delivered more than once, for tests.\n"
    )
    assert told(capsys, "diff", "twice", "prototype") == (
        "Calls stay in the process, and messages are delivered once.\n"
    )
    assert "Messages are delivered once.\n" in told(capsys, "diff", "twice", "scale")
    assert told(capsys, "diff", "twice", "twice") == "twice and twice are alike.\n"


def test_so_is_what_services_say_besides_their_processes(pad: Any) -> None:
    table = (
        "[topologies.{0}.database]\nkind = 'postgres'\n"
        "[topologies.{0}.tls]\ncertificate = 'a.pem'\nkey = 'a.key'\nauthority = 'ca'\n"
        "[topologies.{0}.services.a]\nmodules = ['notes']\n"
    )
    with (pad.root / "tenfold.toml").open("a") as file:
        file.write(table.format("one") + "listen = '127.0.0.1:9'\n")
        file.write(
            table.format("two") + "max_calls = 600\nlisten = '127.0.0.1:8'\naddresses = ['b:8']\n"
        )
    assert pad("topology", "diff", "one", "two").stdout.splitlines() == [
        "services.a.max_calls is 600 in place of 500.",
        'services.a.listen is "127.0.0.1:8" in place of "127.0.0.1:9".',
        'services.a.addresses is ["b:8"] in place of nothing.',
    ]


def test_a_sound_file_is_told_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "check") == "Nothing is wrong with prototype, growth, scale.\n"
    assert json.loads(told(capsys, "check", "--topology", "twice", "--json")) == []


def test_every_mistake_of_every_topology_is_told_with_its_place(pad: Any) -> None:
    file = pad.root / "tenfold.toml"
    file.write_text(
        file.read_text()
        .replace('notes = "padkit.module:NotesModule"', 'notes = "padkit.module:NoteModule"')
        .replace('seed = "padkit.module:seed"', 'seed = "padkit.module:sed"')
        + "[topologies.open.http]\nhost = '0.0.0.0'\n"
        "[topologies.wide.http]\nprot = 1\n"
        "[topologies.split.database]\nkind = 'postgres'\n"
        "[topologies.split.services.a]\nmodules = ['note']\n"
    )
    done = pad("topology", "check")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith(f"prototype, open: {file}, line 5: ")
    assert "Did you mean `NotesModule`?" in lines[0]
    assert lines[1].startswith(f"prototype, open: {file}, line 2: ")
    assert "Did you mean `seed`?" in lines[1]
    assert lines[2].startswith("open: tenfold.toml, line 15: the host is '0.0.0.0'")
    assert lines[3].startswith(f"wide: {file}, line 17: ")
    assert "Did you mean `port`?" in lines[3]
    assert lines[4].startswith(f"split: {file}, line 21: the service 'a' is to host 'note'")
    assert "Did you mean `notes`?" in lines[4]


def test_what_only_the_modules_together_show_is_told(pad: Any) -> None:
    pad.change("    seen: Seen\n", "    seen: Seen\n    other: Other\n", "padkit/module.py")
    assert "name 'Other' is not defined" in pad("topology", "check").stdout
    pad.change(
        "from padkit.contract import Noted, Notes",
        "from typing import Protocol\nfrom tenfold import Contract\n"
        "from padkit.contract import Noted, Notes\n"
        'class Other(Contract, Protocol):\n    """Nobody\'s."""\n',
        "padkit/module.py",
    )
    pad.change(
        "[topologies.prototype.http]",
        "[topologies.prototype.queue.max_backlog]\nnots = 5\n[topologies.prototype.http]",
    )
    done = pad("topology", "check")
    assert done.returncode == 1
    unmet, backlog = done.stdout.splitlines()
    assert "NotesModule.other needs Other, which no module of this product implements" in unmet
    assert "queue.max_backlog names 'nots', which is not a module" in backlog


TWO_AT_ONE = '''\
"""Lists."""
from typing import Protocol
from tenfold import Contract, Refusal, command, query

class Full(Refusal):
    status = 409
    detail: str

class Lists(Contract, Protocol):
    """Lists."""
    @query("GET /v1/notes", who="anyone")
    async def count(self) -> int:
        """How many."""
        ...
    @query("GET /docs/mine", who="anyone")
    async def mine(self) -> int:
        """Whose."""
        ...
    @command("POST /v1/lists", who="anyone", raises=[Full])
    async def fill(self) -> int:
        """More."""
        ...

class ListsModule(Lists):
    """Lists."""
    async def count(self) -> int:
        return 0
    async def mine(self) -> int:
        return 0
    async def fill(self) -> int:
        return 0
'''


def test_routes_that_cannot_be_served_are_told(pad: Any) -> None:
    (pad.root / "padkit" / "lists.py").write_text(TWO_AT_ONE)
    pad.change("[modules]\n", '[modules]\nlists = "padkit.lists:ListsModule"\n')
    done = pad("topology", "check")
    assert done.returncode == 1
    reserved, field, taken = done.stdout.splitlines()
    assert "The route GET /docs/mine of Lists.mine is under 'docs'" in reserved
    assert "Full has the field 'detail'" in field
    assert "Notes.count and Lists.count are both served at GET /v1/notes" in taken


def test_a_broker_that_nobody_knows_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENFOLD_BROKER_URL", "kafak://one.example:9")
    assert "Did you mean `kafka`?" in told(capsys, "check", "--topology", "scale", code=1)


@pytest.mark.parametrize("at", ["listen = '127.0.0.1:9'", "addresses = ['b:9']\nreplicas = 0"])
def test_certificates_that_are_not_there_are_told(pad: Any, at: str) -> None:
    with (pad.root / "tenfold.toml").open("a") as file:
        file.write(
            "[topologies.split.database]\nkind = 'postgres'\n"
            "[topologies.split.tls]\ncertificate = 'a.pem'\nkey = 'a.key'\nauthority = 'ca'\n"
            f"[topologies.split.services.a]\nmodules = ['notes']\n{at}\n"
        )
    pad.change("padkit.module:NotesModule", "padkit.module:NoteModule")
    done = pad("topology", "check", "--topology", "split")
    assert done.returncode == 1
    absent, certificate = done.stdout.splitlines()
    assert "Did you mean `NotesModule`?" in absent
    assert f"split: There is no file {pad.root / 'a.pem'}, which the topology names" in certificate
