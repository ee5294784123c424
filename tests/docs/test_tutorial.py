"""The tutorial is done as it is written, so that it cannot rot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.transcript import Transcript

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: install it (apt install curl)"
)
def test_the_tutorial_can_be_done_as_it_is_written(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    ran = Transcript(DOCS / "tutorial" / "first-module.md", work, tmp_path / "tools").play()
    assert ran >= 12
