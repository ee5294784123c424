"""Whether a database has what a module declares: both read as facts, and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tenfold.contracts.structs import Struct

__all__ = ["Drift", "Facts", "decide_drift"]

Facts = Mapping[tuple[str, str], str]
"""What there is: kind (`table`, `column`, ...) and name, to what it is."""


class Drift(Struct):
    """One difference. `expected` is empty for what nobody declares, `found` for what is missing."""

    module: str
    kind: str
    name: str
    state: Literal["missing", "unknown", "different"]
    expected: str = ""
    found: str = ""

    @property
    def said(self) -> str:
        """For people: `- column things.size bigint`, as a diff from what is declared."""
        what = f"{self.kind} {self.name}"
        lines = []
        if self.expected:
            lines.append(f"- {what} {self.expected}")
        if self.found:
            lines.append(f"+ {what} {self.found}")
        return "\n".join(lines)


def decide_drift(module: str, declared: Facts, found: Facts) -> list[Drift]:
    """The differences, tables first, each with what belongs to it.

    Of a table that is missing, or that nobody declares, only that is said. A check
    that is there under another name counts as there: nothing but its name would
    differ.
    """
    renamed = _renamed(declared, found)
    drifts = []
    for kind, name in sorted({*declared, *found}, key=_place):
        table = ("table", name.partition(".")[0])
        if (kind, name) in renamed or (kind != "table" and (table in declared) != (table in found)):
            continue
        expected, there = declared.get((kind, name)), found.get((kind, name))
        if expected == there:
            continue
        state: Literal["missing", "unknown", "different"] = "different"
        if expected is None or there is None:
            state = "unknown" if expected is None else "missing"
        drifts.append(
            Drift(
                module=module,
                kind=kind,
                name=name,
                state=state,
                expected=expected or "",
                found=there or "",
            )
        )
    return drifts


def _renamed(declared: Facts, found: Facts) -> set[tuple[str, str]]:
    same: set[tuple[str, str]] = set()
    spare = {key: text for key, text in found.items() if key[0] == "check" and key not in declared}
    for key, text in declared.items():
        if key[0] != "check" or key in found:
            continue
        table = key[1].partition(".")[0]
        for other, said in spare.items():
            if said == text and other not in same and other[1].partition(".")[0] == table:
                same |= {key, other}
                break
    return same


def _place(key: tuple[str, str]) -> tuple[str, int, str, str]:
    kind, name = key
    return name.partition(".")[0], int(kind != "table"), kind, name
