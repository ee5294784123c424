"""What a rolling restart refuses to change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.fleet import Fleet
from tenfold.runtimes.topology import ProductFile, read_product_file

TEXT = """
name = "shop"
[modules]
orders = "shop:Orders"
stock = "shop:Stock"
[topologies.scale.database]
url = "postgresql://db/shop"
[topologies.scale.services.one]
modules = ["orders"]
[topologies.scale.services.other]
modules = ["stock"]
"""


def read(folder: Path, text: str) -> ProductFile:
    (folder / "tenfold.toml").write_text(text)
    return read_product_file(folder, "scale", environ={})


def never(*_: Any) -> Any:
    raise AssertionError("nothing is spawned")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("db/shop", "db/other", "database.url"),
        ('["orders"]', '["stock"]', "services"),
        ("services.one", "services.first", "services"),
    ],
)
async def test_what_needs_a_whole_new_start_is_told_before_anything_is_replaced(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    before = read(tmp_path, TEXT)
    changed = TEXT.replace(old, "@").replace(new, old).replace("@", new)
    fleet = Fleet(before, lambda: read(tmp_path, changed), never, never, never)
    with pytest.raises(UserMistakeError, match=said):
        await fleet.restart(never)
