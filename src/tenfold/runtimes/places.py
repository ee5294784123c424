"""Where a value of the topology file came from, and how a mistake in it is told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct

__all__ = ["Origins", "nearest", "spell"]

_HEADER = re.compile(r"^\s*\[{1,2}\s*(?P<path>[^\[\]]+?)\s*\]{1,2}\s*(#.*)?$")
_KEY = re.compile(
    r"""^\s*(?P<key>(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")
Keys = tuple[str, ...]


class Origins(Struct):
    """Where each value came from: a line of the file, a variable, an option, or a default.

    `lines` are those of the file, by key path; `named` are values from outside
    of it, by key path, such as `environment variable PORT`.
    """

    file: Path
    lines: dict[Keys, int]
    named: dict[Keys, str]

    @staticmethod
    def scan(file: Path, text: str) -> Origins:
        """Note the line of every table and key of a TOML text, numbered from 1."""
        return Origins(file=file, lines=_scan(text), named={})

    def of(self, keys: Keys) -> str:
        """The place of a value as people read it; `default` where nobody said anything."""
        if keys in self.named:
            return self.named[keys]
        line = self.lines.get(keys)
        return "default" if line is None else f"{self.file.name}, line {line}"

    def mistake(self, keys: Keys, found: str, expected: str) -> UserMistakeError:
        """The error for a value at `keys`: place, what was found, what was expected."""
        for end in range(len(keys), 0, -1):
            if keys[:end] in self.named:
                place = self.named[keys[:end]]
                break
            if keys[:end] in self.lines:
                place = f"{self.file}, line {self.lines[keys[:end]]}"
                break
        else:
            place = str(self.file)
        return UserMistakeError(f"{place}: {found} {expected}".rstrip())


def nearest(word: str, names: Iterable[str]) -> str:
    """A sentence that offers the nearest right name, or lists those that there are."""
    import difflib

    known = sorted(names)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.55)
    if close:
        return f"Did you mean `{close[0]}`?"
    if not known:
        return "There are none."
    listed = ", ".join(f"`{name}`" for name in known[:20])
    return f"There are: {listed}{', …' if len(known) > 20 else ''}."


def spell(keys: Iterable[Any]) -> str:
    """A key path as it is written in TOML."""
    return ".".join(
        str(key) if re.fullmatch(r"[A-Za-z0-9_-]+", str(key)) else f'"{key}"' for key in keys
    )


def _split(path: str) -> Keys:
    return tuple(part.strip("\"'") for part in _PART.findall(path))


def _scan(text: str) -> dict[Keys, int]:
    lines: dict[Keys, int] = {}
    table: Keys = ()
    inside: str | None = None  # the quotes of a multi-line string that is open
    depth = 0  # brackets of a value that goes on over several lines
    for number, line in enumerate(text.splitlines(), start=1):
        if inside is not None:
            if inside in line:
                inside = None
            continue
        bare = re.sub(r'"(?:\\.|[^"\\])*"|\'[^\']*\'', "", line) if "'''" not in line else line
        header = _HEADER.match(line) if depth == 0 else None
        key = _KEY.match(line) if depth == 0 and header is None else None
        if header is not None:
            table = _split(header["path"])
            lines.setdefault(table, number)
            continue
        if key is not None:
            full = table + _split(key["key"])
            for end in range(len(table) + 1, len(full) + 1):
                lines.setdefault(full[:end], number)
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                inside = quotes
        bare = bare.split("#", 1)[0]
        depth += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
        depth = max(depth, 0)
    return lines
