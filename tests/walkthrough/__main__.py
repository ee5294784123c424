"""Make the transcript anew: `make walkthrough`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio

from tests.walkthrough.transcript import transcript
from tests.walkthrough.walk import ROOT, walk

PAGE = ROOT / "docs" / "walkthrough.md"


async def _page() -> str:
    with tempfile.TemporaryDirectory() as data:
        return transcript(await walk(Path(data)))


if __name__ == "__main__":
    PAGE.write_text(anyio.run(_page), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is written. Read what changed in it with git diff.")
