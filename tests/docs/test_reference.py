"""The reference has every key, command, exit code, frame and stop that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.main import get_command

from tenfold.cli.app import app
from tenfold.cli.entry import Exit
from tenfold.path.shedding import SheddingSettings
from tenfold.path.stops import Stops
from tenfold.ports import control
from tenfold.runtimes.reading import _VARIABLES
from tenfold.runtimes.settings import DatabaseSettings, HttpLimits, ProcessSettings, QueueLimits

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "limits", [HttpLimits, QueueLimits, SheddingSettings], ids=lambda kind: str(kind.__name__)
)
def test_every_key_of_a_topology_is_there_with_its_default(limits: type[msgspec.Struct]) -> None:
    text = page("tenfold-toml.md")
    for field in msgspec.structs.fields(limits):
        default: Any = {} if field.default_factory is dict else field.default
        shown = "[]" if default == () else f'"{default}"' if isinstance(default, str) else default
        assert f"| `{field.name}` | `{shown}` |" in text


def test_every_environment_variable_is_there() -> None:
    text = page("tenfold-toml.md")
    for variable in (*_VARIABLES, "TENFOLD_TOPOLOGY", "TENFOLD_PRODUCT"):
        assert f"| `{variable}` |" in text


def test_every_command_and_exit_code_is_there() -> None:
    text = page("command-line.md")
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for full in [f"{name} {sub}" for sub in getattr(command, "commands", ())] or [name]:
            assert f"| `tenfold {full}" in text, full
    for code in Exit:
        assert f"\n| {code.value} |" in text


def test_the_frames_of_the_control_socket_are_those_that_are_sent() -> None:
    text = page("control-socket.md")
    assert f"# Control socket, version {control.VERSION}\n" in text
    assert f"{control.MAX_FRAME_BYTES:,}" in text
    for frame in control.Frame.__subclasses__():
        tag = frame.__struct_config__.tag
        (row,) = re.findall(rf"^\| `{tag}` \|.*$", text, re.MULTILINE)
        named = re.findall(r"`(\w+)`(?=:| int| str| map| float| bool)", row)
        assert named == [field.name for field in msgspec.structs.fields(frame)]


def test_every_stop_has_a_row_among_the_metrics() -> None:
    text = page("metrics.md")
    assert [row for row in re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) if row != "stop"] == [
        stop.name for stop in Stops().all()
    ]
