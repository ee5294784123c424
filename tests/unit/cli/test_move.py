"""`tenfold move --wait`: who may say that it is to switch over, and when."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import select
import sys
from collections.abc import Iterator

import pytest

from tenfold.cli.entry import main
from tenfold.cli.move import _enter
from tests.faults.store_process import STORE

WORDS = ("move", "--product", str(STORE), "--from", "prototype", "--to", "growth", "--wait")


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where a person types, at the other end of the terminal that is standard input."""
    keyboard, terminal = pty.openpty()
    with open(terminal) as stdin, monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", stdin)
        yield keyboard
    os.close(keyboard)


class Answered(io.StringIO):
    """A terminal's output: whoever reads the prompt answers it."""

    def __init__(self, keyboard: int) -> None:
        super().__init__()
        self._keyboard = keyboard

    def flush(self) -> None:
        if "Press Enter" in self.getvalue():
            os.write(self._keyboard, b"asked\n")


def test_what_was_typed_during_the_copy_does_not_switch_over(
    person: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.write(person, b"\n")
    assert select.select([sys.stdin], [], [], 10)[0]
    monkeypatch.setattr(sys, "stderr", Answered(person))
    asyncio.run(_enter())
    os.write(person, b"later\n")
    # A terminal gives one line at a time: the one that was asked for is taken, and none is left.
    assert os.read(sys.stdin.fileno(), 100) == b"later\n"


def test_without_standard_input_it_is_not_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(list(WORDS)) == 2
    assert "Nothing was done. Run it where a line can be sent to it." in capsys.readouterr().err
