"""What an import says to people."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from store.importing import screen as screens
from store.importing.intake import Intake
from store.importing.lines import Reason
from store.importing.recording import Progress
from store.importing.screen import Screen, counted
from store.importing.settling import Settled


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 orders"), (1, "1 order"), (2, "2 orders"), (1200, "1,200 orders")]
)
def test_a_number_of_orders_is_said_as_people_say_it(number: int, said: str) -> None:
    assert counted(number, "order") == said


@pytest.mark.parametrize("terminal", [True, False])
def test_sentences_break_between_words_on_a_terminal_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    said = io.StringIO()

    def console(**_: object) -> Console:
        return Console(file=said, width=80, force_terminal=terminal, color_system=None)

    monkeypatch.setattr(screens, "Console", console)
    shown = Screen(Progress(total=1))
    refused = {reason.value: 0 for reason in Reason}
    intake = Intake(lines=0, taken=0, refused=refused, invoices=[], products=[], damage=None)
    shown.table(intake, 1.0, Path("/tmp/refused.csv"))
    assert not shown.nothing_left_over(intake, Settled(open=1, dead=2))
    text = said.getvalue()
    assert "became 0 orders" in text
    assert "1 order of the store is neither" in text
    warning = text[text.index("1 order of the store") :].splitlines()
    assert (len(warning) > 2) == terminal
    if terminal:
        assert max(len(line) for line in text.splitlines()) <= 80
