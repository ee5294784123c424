"""A file is replaced whole, or not at all."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tenfold.runtimes.durable import replace_durably


def test_a_file_is_replaced_at_once_with_its_rights_and_through_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "tenfold.toml"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    replace_durably(link, b"new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["real.toml", "tenfold.toml"]


def test_what_cannot_be_replaced_is_as_it_was_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "tenfold.toml"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        replace_durably(folder, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["tenfold.toml"]
