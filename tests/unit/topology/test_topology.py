"""The topology file: values with their places, mistakes with theirs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tenfold import TenfoldError
from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.topology import Product, load_product, read_product_file

FILE = """\
name = "shop"
seed = "shopkit.parts:seed"

[modules]
shelf = "shopkit.parts:Shelf"  # the one module

[mounts]
"/" = "shopkit.parts:build"

[topologies.prototype]
[topologies.prototype.http]
port = 9
allowed_origins = [
    "https://a.example",  # over several lines
]

[topologies.prototype.settings.shelf]
provider = "x"

[topologies.big.http]
port = 10
"""
PARTS = """\
from __future__ import annotations

from tenfold import Struct

COUNT = 3


class Trial(Struct):
    share: float = 0.0
    names: tuple[str, ...] = ()
    limits: dict[str, int] = {}


class Options(Struct):
    provider: str = "test"
    limit: int = 1
    trial: Trial = Trial()
    other: Trial | None = None


class Shelf:
    options: Options


def build(): ...


async def seed(): ...
"""


class Folder(SimpleNamespace):
    root: Path

    def change(self, old: str, new: str) -> None:
        file = self.root / "tenfold.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def load(self, topology: str | None = None, **environ: str) -> Product:
        return load_product(self.root, topology, environ=environ)

    def mistake(self, topology: str | None = None, **environ: str) -> str:
        with pytest.raises(UserMistakeError) as raised:
            self.load(topology, **environ)
        return str(raised.value)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    package = tmp_path / "shopkit"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text(PARTS)
    (tmp_path / "tenfold.toml").write_text(FILE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield Folder(root=tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "shopkit"]:
        del sys.modules[name]


def test_a_product_is_loaded_with_what_its_file_names(shop: Folder) -> None:
    product = shop.load()
    assert product.name == "shop"
    assert [cls.__name__ for cls in product.modules.values()] == ["Shelf"]
    assert set(product.mounts) == {"/"}
    assert product.seed is not None
    assert product.settings == {"shelf": {"provider": "x"}}
    assert product.topology.http.allowed_origins == ("https://a.example",)


def test_the_file_is_found_from_a_folder_below(shop: Folder) -> None:
    assert load_product(shop.root / "shopkit", environ={}).root == shop.root


def test_data_is_beside_the_file_unless_said_elsewhere(
    shop: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.load().data_dir == shop.root / ".tenfold"
    monkeypatch.chdir(tmp_path / "shopkit")
    assert shop.load(TENFOLD_DATA="here").data_dir == tmp_path / "shopkit" / "here"


def test_environment_goes_over_file_and_options_over_both(shop: Folder) -> None:
    assert shop.load().topology.http.port == 9
    assert shop.load(PORT="77").topology.http.port == 77
    over = load_product(shop.root, environ={"PORT": "77"}, overrides={"http.port": "78"})
    assert over.topology.http.port == 78
    assert shop.load(TENFOLD_SETTINGS__SHELF__LIMIT="5").settings["shelf"]["limit"] == 5
    origins = shop.load(TENFOLD_HTTP__ALLOWED_ORIGINS="a, b").topology.http.allowed_origins
    assert origins == ("a", "b")


@pytest.mark.parametrize("variable", ["TENFOLD_HTP__PORT", "TENFOLD_HTTP__"])
def test_a_variable_that_sets_nothing_is_told(shop: Folder, variable: str) -> None:
    with pytest.raises(UserMistakeError, match=rf"variable {variable}: it sets nothing.*mean http"):
        shop.load(**{variable: "1"})


def test_the_environment_reaches_settings_at_any_depth_as_what_they_are(shop: Folder) -> None:
    settings = shop.load(
        TENFOLD_SETTINGS__SHELF__TRIAL__SHARE="1",
        TENFOLD_SETTINGS__SHELF__TRIAL__NAMES="a, b",
        TENFOLD_SETTINGS__SHELF__TRIAL__LIMITS__GBP="5",
        TENFOLD_SETTINGS__SHELF__OTHER__SHARE="0.5",
    ).settings["shelf"]
    assert settings["trial"] == {"share": 1.0, "names": ("a", "b"), "limits": {"gbp": 5}}
    assert settings["other"] == {"share": 0.5}


def test_each_value_knows_where_it_came_from(shop: Folder) -> None:
    found = read_product_file(shop.root, environ={"TENFOLD_SETTINGS__SHELF__LIMIT": "5"})
    assert found.origins.of(("http", "port")) == "tenfold.toml, line 12"
    assert found.origins.of(("http", "host")) == "default"
    assert found.origins.of(("settings", "shelf", "limit")) == (
        "environment variable TENFOLD_SETTINGS__SHELF__LIMIT"
    )


def test_a_topology_is_chosen_by_name(shop: Folder) -> None:
    assert shop.load("big").topology.http.port == 10
    assert shop.load(TENFOLD_TOPOLOGY="big").topology.name == "big"
    assert "Did you mean `prototype`?" in shop.mistake("protoype")


def test_reading_imports_nothing_of_the_product(shop: Folder) -> None:
    read_product_file(shop.root, environ={})
    assert "shopkit.parts" not in sys.modules


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("port = 9", "prt = 9", 12, "`http.prt` is not known here. Did you mean `port`?"),
        ("port = 9", "port = '9'", 12, "`http.port` is '9': expected a whole number, got a text"),
        ("port = 9", "port = 99999", 12, "expected a whole number <= 65535"),
        ("[modules]", "[module]", 4, "Did you mean `modules`?"),
        ("provider =", "providr =", 18, "Did you mean `provider`?"),
        ("settings.shelf]", "settings.shlf]", 17, "Did you mean `shelf`?"),
        ("parts:Shelf", "parts:Shelve", 5, "has no 'Shelve'. Did you mean `Shelf`?"),
        ("parts:Shelf", "parts:build", 5, "which is a function, not a class"),
        ("parts:Shelf", "part:Shelf", 5, "there is no 'shopkit.part'. Did you mean `parts`?"),
        ("parts:Shelf", "parts.Shelf", 5, "is not a reference"),
        ("parts:build", "parts:COUNT", 8, "which is an int and cannot be called"),
        ('"/" =', '"shop" =', 8, "is not a path"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_mend(
    shop: Folder, old: str, new: str, line: int, said: str
) -> None:
    shop.change(old, new)
    message = shop.mistake()
    assert f"tenfold.toml, line {line}: " in message
    assert said in message


def test_what_is_no_toml_is_told_with_its_line(shop: Folder) -> None:
    shop.change("port = 9", "port = ")
    assert "is not valid TOML" in shop.mistake()
    assert "line 12" in shop.mistake()


def test_a_missing_name_is_asked_for(shop: Folder) -> None:
    shop.change('name = "shop"\n', "")
    assert "`name`" in shop.mistake()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PORT": "x"}, "environment variable PORT: `http.port` is 'x': expected a whole number."),
        ({"TENFOLD_SETTINGS__SHELF__LIMIT": "q"}, "`settings.shelf.limit` is 'q'"),
        ({"TENFOLD_SETTINGS__SHELF__LIMT": "1"}, "Did you mean `limit`?"),
        ({"TENFOLD_SETTINGS__SHELF__TRIAL__SHARE": "q"}, "`settings.shelf.trial.share` is 'q'"),
        ({"TENFOLD_SETTINGS__SHELF__TRIAL__SHRE": "1"}, "Did you mean `share`?"),
        ({"TENFOLD_HTTP__PRT": "1"}, "Did you mean `port`?"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(
    shop: Folder, environ: dict[str, str], said: str
) -> None:
    message = shop.mistake(**environ)
    assert message.startswith(f"environment variable {next(iter(environ))}: ")
    assert said in message


def test_an_import_that_fails_keeps_its_cause_for_debug(shop: Folder) -> None:
    parts = shop.root / "shopkit" / "parts.py"
    parts.write_text(PARTS + "\n1 / 0\n")
    with pytest.raises(UserMistakeError, match=r"ZeroDivisionError.*parts\.py, line \d+") as raised:
        shop.load()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_no_file_is_told_with_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserMistakeError, match=r"There is no tenfold\.toml in"):
        load_product(tmp_path, environ={})


def test_every_mistake_is_an_error_of_tenfold(tmp_path: Path) -> None:
    error: Any = UserMistakeError("x")
    assert isinstance(error, TenfoldError)
    assert error.code == "user.mistake"


def test_every_product_has_a_topology_for_tests_which_is_as_its_prototype(shop: Folder) -> None:
    found = shop.load("twice")
    assert (found.topology.name, found.topology.repeated) == ("twice", True)
    assert found.topology.http.port == 9
    assert found.settings == {"shelf": {"provider": "x"}}
    assert not shop.load().topology.repeated
    shop.change("provider = ", "provide = ")
    assert "line 18: `settings.shelf.provide` is not known here." in shop.mistake("twice")


def test_it_may_have_a_table_of_its_own_but_no_other_database(shop: Folder) -> None:
    shop.change("[topologies.big.http]", "[topologies.twice.http]")
    assert shop.load("twice").topology.http.port == 10
    assert shop.load("twice").settings == {"shelf": {}}
    shop.change("port = 10", "port = 10\n[topologies.twice.database]\nkind = 'postgres'")
    assert "line 23: the topology 'twice' is for tests: one process" in shop.mistake("twice")
