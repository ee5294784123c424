"""The tutorial, and the how-to that goes on from it, are done as they are written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.transcript import Transcript

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: install it (apt install curl)"
)
def test_the_tutorial_and_then_a_migration_can_be_done_as_they_are_written(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    ran = Transcript(DOCS / "tutorial" / "first-module.md", work, tmp_path / "tools").play()
    assert ran >= 12
    migration = DOCS / "how-to" / "add-a-migration.md"
    assert Transcript(migration, work / "workshop", tmp_path / "more tools").play() == 4


def test_an_adapter_is_written_and_passes_its_suite(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    page = DOCS / "how-to" / "write-an-adapter.md"
    assert Transcript(page, work, tmp_path / "tools").play() == 1
