"""A file that is whole on the disk, or as it was before."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

__all__ = ["replace_durably"]


def replace_durably(path: Path, data: bytes) -> None:
    """Let a file have this content, at once; it is on the disk when this returns. Raises: OSError.

    It keeps the rights that it has. Where it is a link, what it points to is replaced.
    """
    target = path.resolve()
    partial = target.with_name(f"{target.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    opened = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
