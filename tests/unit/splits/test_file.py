"""The topology file is changed where it must be, and nowhere else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.splits.file import edit_hosting, written_beside
from tenfold.runtimes.splits.plan import Hosting

STORE = Path(__file__).parents[3] / "examples" / "store" / "tenfold.toml"
OUT = Hosting(
    topology="growth",
    modules=("catalog", "orders"),
    service="payments",
    hosts=("payments",),
    replicas=2,
    workers=1,
)
BACK = Hosting(topology="growth", modules=(), service="payments")


def test_out_and_back_leaves_the_file_as_it_was() -> None:
    text = STORE.read_text()
    out = edit_hosting(text, OUT)
    added = [line for line in out.splitlines() if line not in text.splitlines()]
    assert added == [
        'modules = ["catalog", "orders"]',
        "[topologies.growth.services.payments]",
        "replicas = 2",
    ]
    lines = out.splitlines()
    at = lines.index("[topologies.growth.services.payments]")
    assert lines[at - 2 : at + 5] == [
        'transport = "mailbox"',
        "",
        "[topologies.growth.services.payments]",
        'modules = ["payments"]',
        "replicas = 2",
        "workers = 1",
        "",
    ]
    assert lines[at + 5].startswith("# Modules as services of their own"), "it is of what follows"
    assert edit_hosting(out, BACK) == text


def test_the_second_and_the_first_may_go_in_either_order() -> None:
    first = edit_hosting(STORE.read_text(), OUT)
    other = Hosting(topology="growth", modules=("catalog",), service="o", hosts=("orders",))
    both = edit_hosting(first, other)
    growth = tomllib.loads(both)["topologies"]["growth"]
    assert growth["processes"] == {"web": 2, "workers": 1, "modules": ["catalog"]}
    assert growth["services"]["o"] == {"modules": ["orders"], "replicas": 1}
    gone = edit_hosting(both, Hosting(topology="growth", modules=("catalog",), service="payments"))
    assert "payments" not in tomllib.loads(gone)["topologies"]["growth"]["services"]
    assert gone.count("# Modules as services of their own") == 1
    assert edit_hosting(gone, Hosting(topology="growth", modules=(), service="o")) == (
        STORE.read_text()
    )


NEXT = """name = "x"

[topologies.growth.processes]
web = 2

# The next one.
[topologies.scale]
"""


def test_what_stands_before_the_next_topology_stays_there() -> None:
    out = edit_hosting(NEXT, OUT)
    assert out == NEXT.replace(
        "web = 2\n",
        """web = 2
modules = ["catalog", "orders"]

[topologies.growth.services.payments]
modules = ["payments"]
replicas = 2
workers = 1
""",
    )
    assert edit_hosting(out, BACK) == NEXT


def test_a_file_that_says_nothing_of_the_topology_says_it_then() -> None:
    out = edit_hosting('name = "x"\n[modules]\na = "b"\n', OUT)
    growth = tomllib.loads(out)["topologies"]["growth"]
    assert growth["services"]["payments"]["modules"] == ["payments"]
    assert growth["processes"]["modules"] == ["catalog", "orders"]


def test_tables_in_one_line_are_not_guessed_at() -> None:
    text = 'topologies = { growth = { processes = { web = 2 } } }\nname = "x"\n'
    with pytest.raises(UserMistakeError, match="cannot be changed here"):
        edit_hosting(text, OUT)


def test_what_is_written_beside_goes_again(tmp_path: Path) -> None:
    file = tmp_path / "tenfold.toml"
    with written_beside(file, "text") as beside:
        assert (beside.parent, beside.read_text()) == (tmp_path, "text")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nothing_is_done(tmp_path: Path) -> None:
    with (
        pytest.raises(UserMistakeError, match="cannot be written to"),
        written_beside(tmp_path / "gone" / "tenfold.toml", "text"),
    ):
        raise AssertionError("it is not reached")
