"""The README's first ten minutes go as it says, on a store of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.transcript import Transcript

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: install it (apt install curl)"
)
def test_the_first_ten_minutes_go_as_the_readme_says(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environ = {
        "TENFOLD_PRODUCT": str(ROOT / "examples" / "store"),
        "TENFOLD_DATA": str(tmp_path / "data"),
    }
    page = Transcript(ROOT / "README.md", work, tmp_path / "tools", environ)
    page.serve("tenfold run")
    assert page.play() >= 12
