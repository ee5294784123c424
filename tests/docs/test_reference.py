"""The reference has every key, command, exit code, frame and stop that there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from tenfold.cli.app import app
from tenfold.cli.entry import Exit
from tenfold.path.limits import LimitSettings
from tenfold.path.stops import Stops
from tenfold.ports import frames
from tenfold.runtimes.local_servers.environment import decide_given
from tenfold.runtimes.reading import _PREFIXES, _VARIABLES
from tenfold.runtimes.topology import Topology

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def section(table: str) -> str:
    """What stands below the heading of one table of a topology."""
    whole = page("tenfold-toml.md")
    heading = f"\n### `[topologies.NAME.{table}]`\n"
    assert heading in whole, f"there is no heading for {table}"
    return re.split(r"\n##+ [^#]", whole.split(heading)[1])[0]


def tables() -> dict[str, type[msgspec.Struct]]:
    """The tables of a topology that are structs, and that of one rate limit."""
    fields = msgspec.structs.fields(Topology)
    kinds = {field.name: field.type for field in fields if isinstance(field.type, type)}
    found = {name: kind for name, kind in kinds.items() if issubclass(kind, msgspec.Struct)}
    return {**found, "limits.LIMIT": LimitSettings}


def shown(default: Any) -> str:
    if isinstance(default, tuple):
        return "[" + ", ".join(f'"{each}"' for each in default) + "]"
    if isinstance(default, bool):
        return str(default).lower()
    return f'"{default}"' if isinstance(default, str) else str(default)


@pytest.mark.parametrize(("table", "struct"), tables().items(), ids=tables())
def test_every_key_of_a_table_has_its_row_with_its_default(
    table: str, struct: type[msgspec.Struct]
) -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", section(table), re.MULTILINE)
    expected = []
    for field in msgspec.structs.fields(struct):
        default = {} if field.default_factory is dict else field.default
        required = default is msgspec.NODEFAULT
        expected.append((field.name, "" if required else f"`{shown(default)}`"))
    assert [(name, text.strip()) for name, text in rows] == expected


def test_every_table_that_a_variable_may_name_is_there() -> None:
    named = {name.partition(".")[0] for name in tables()} | {"settings", "services"}
    assert named == set(_PREFIXES)
    text = page("tenfold-toml.md")
    assert "\n### `[topologies.NAME.settings.MODULE]`\n" in text
    rows = "".join(re.findall(r"^\| `TENFOLD_\w+__KEY` \|.*$", text, re.MULTILINE))
    for table in _PREFIXES:
        assert re.search(rf"`{table}[`.]", rows), table


def test_every_environment_variable_is_there() -> None:
    text = page("tenfold-toml.md")
    for variable in (*_VARIABLES, "TENFOLD_TOPOLOGY", "TENFOLD_PRODUCT", "DATABASE_URL"):
        assert f"| `{variable}` |" in text, variable


@pytest.mark.parametrize("variable", ["TENFOLD_DATABASE_URL", "DATABASE_URL"])
def test_the_variables_that_name_a_database_do(variable: str) -> None:
    url = "postgresql://somebody@db.example/shop"
    assert decide_given({variable: url}).database_url == url


@pytest.mark.parametrize("variable", ["TENFOLD_CACHE_URL", "VALKEY_URL", "REDIS_URL"])
def test_the_variables_that_name_a_cache_do(variable: str) -> None:
    assert f"`{variable}`" in page("tenfold-toml.md")
    url = "redis://cache.example:6379/0"
    assert decide_given({variable: url}).cache_url == url


def test_every_command_and_exit_code_is_there() -> None:
    text = page("command-line.md")
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for full in [f"{name} {sub}" for sub in getattr(command, "commands", ())] or [name]:
            assert f"| `tenfold {full}" in text, full
    for code in Exit:
        assert f"\n| {code.value} |" in text


def test_the_frames_are_those_that_are_sent() -> None:
    text = page("frames.md")
    assert f"# Frames, version {frames.VERSION}\n" in text
    assert f"{frames.MAX_FRAME_BYTES:,}" in text
    for frame in frames.Frame.__subclasses__():
        tag = frame.__struct_config__.tag
        (row,) = re.findall(rf"^\| `{tag}` \|.*$", text, re.MULTILINE)
        named = re.findall(r"`(\w+)`(?=:| int| str| map| float| bool| bytes)", row)
        assert named == [field.name for field in msgspec.structs.fields(frame)]


def test_every_stop_has_a_row_among_the_metrics() -> None:
    text = page("metrics.md")
    assert [row for row in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) if row != "stop"] == [
        stop.name for stop in Stops().all()
    ]


def measured() -> Iterator[tuple[str, set[str]]]:
    """Every gauge and counter that the code makes: its full name, and its labels that are known."""
    for path in sorted((ROOT / "src" / "tenfold").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Gauge", "Counter"):
                given = {word.arg: word.value for word in node.keywords}
                name = given.get("name")
                if isinstance(name, ast.Constant) and isinstance(name.value, str):
                    end = "_total" if ast.unparse(node.func) == "Counter" else ""
                    yield f"tenfold_{name.value}{end}", labels(given.get("labels"))


def labels(node: ast.expr | None) -> set[str]:
    keys = node.keys if isinstance(node, ast.Dict) else ()
    return {str(key.value) for key in keys if isinstance(key, ast.Constant)}


def test_every_metric_is_there_with_its_labels() -> None:
    text = page("metrics.md")
    found = dict(measured())
    assert len(found) > 20
    for name, names in found.items():
        said = re.findall(rf"(?<!\w){name}(?!\w)[^\n]*", text)
        assert said, name
        assert names <= set(re.findall(r"\w+", " ".join(said))), (name, names)
