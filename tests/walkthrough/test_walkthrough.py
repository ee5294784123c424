"""The transcript of one order is what the store does."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import pytest

from tests.walkthrough.transcript import transcript
from tests.walkthrough.walk import ROOT, walk

pytestmark = pytest.mark.anyio
PAGE = ROOT / "docs" / "walkthrough.md"


async def test_the_transcript_is_what_the_store_does(tmp_path: Path) -> None:
    now = transcript(await walk(tmp_path))
    written = PAGE.read_text(encoding="utf-8")
    drift = "\n".join(
        difflib.unified_diff(
            written.splitlines(), now.splitlines(), "docs/walkthrough.md", "the store", lineterm=""
        )
    )
    assert written == now, (
        "The store does something else than docs/walkthrough.md says. If that is meant, renew the "
        f"page with `make walkthrough` and read the difference before you commit it:\n{drift}"
    )


async def test_every_stop_of_the_path_is_in_the_transcript() -> None:
    stops = re.findall(r"^## \d+\. ([a-z ]+) ·", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(stops) == {
        "edge",
        "admit",
        "handle",
        "unit of work",
        "outbox",
        "relay",
        "queue",
        "projection",
    }


async def test_every_file_that_the_transcript_names_is_there() -> None:
    named = re.findall(r"\]\(\.\./([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert named
    assert not [file for file in named if not (ROOT / file).is_file()]
