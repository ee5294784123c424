"""The README's first ten minutes and the how-tos go as they say, each on a store of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.transcript import Transcript

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: install it (apt install curl)"
)
@pytest.mark.parametrize(
    ("page", "commands"),
    [
        ("README.md", 12),
        ("docs/how-to/import-orders.md", 3),
        ("docs/how-to/rebuild-a-projection.md", 2),
    ],
)
def test_what_is_done_to_the_store_goes_as_the_page_says(
    page: str, commands: int, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environ = {
        "TENFOLD_PRODUCT": str(ROOT / "examples" / "store"),
        "TENFOLD_DATA": str(tmp_path / "data"),
    }
    transcript = Transcript(ROOT / page, work, tmp_path / "tools", environ)
    transcript.serve("tenfold run")
    assert transcript.play() >= commands


@pytest.mark.timeout(240)
@pytest.mark.campaign
@pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: install it (apt install curl)"
)
def test_the_first_ten_minutes_go_alike_in_several_processes(
    tmp_path: Path, postgres_url: str, valkey_url: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environ = {
        "TENFOLD_PRODUCT": str(ROOT / "examples" / "store"),
        "TENFOLD_DATA": str(tmp_path / "data"),
        "TENFOLD_TOPOLOGY": "growth",
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_CACHE_URL": valkey_url,
    }
    transcript = Transcript(ROOT / "README.md", work, tmp_path / "tools", environ)
    said = transcript.serve("tenfold run")
    assert "topology growth" in said
    assert transcript.play() >= 12
