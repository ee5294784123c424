"""`make run` starts the store on the data directory that was said, whatever its name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def made(tmp_path: Path) -> list[str]:
    """`make`, with a `tenfold` that says what it was started with."""
    program = tmp_path / "bin" / "tenfold"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s|%s" "$TENFOLD_DATA" "$TENFOLD_TOPOLOGY"\n')
    program.chmod(0o755)
    tools = os.path.relpath(program.parent, ROOT)
    return ["make", "--silent", "-C", str(ROOT), "run", f"BIN={tools}", "READY="]


@pytest.mark.parametrize("by", ["command line", "environment"])
@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("/tmp/my data", "/tmp/my data"),
        ('/tmp/it\'s "mine"', '/tmp/it\'s "mine"'),
        ("my data", f"{ROOT}/my data"),
        ("", ""),
    ],
)
def test_a_data_directory_is_used_as_it_is_written(
    made: list[str], by: str, said: str, meant: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TENFOLD_", "MAKE"))}
    if by == "environment":
        environment["TENFOLD_DATA"] = said
    else:
        made = [*made, f"TENFOLD_DATA={said}"]
    done = subprocess.run(
        [*made, "TOPOLOGY=prototype"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == f"{meant}|prototype"
