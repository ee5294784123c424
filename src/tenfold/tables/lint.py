"""What can go wrong with a revision while a product runs: found in its SQL before it is applied.

An error fails, or breaks the code that runs meanwhile; a warning makes others
wait. A revision allows what a rule says, with a reason, on the line of the
statement or on a line of its own anywhere in the file:

    # tenfold: lint-ignore index-locks because the table is written once a day
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from tenfold.contracts.structs import Struct
from tenfold.tables.lint_rules import RULES, decide_broken_rules
from tenfold.tables.lint_state import SchemaSoFar
from tenfold.tables.rendering import Rendered

__all__ = ["Finding", "Level", "allowed", "decide_findings"]

Level = Literal["error", "warning"]
_IGNORE: Final = re.compile(r"#\s*tenfold:\s*lint-ignore\s*(?P<rule>[\w/-]*)\s*(?P<rest>.*)")
_BECAUSE: Final = re.compile(r"because\s+\S")


class Finding(Struct):
    """One rule that a revision breaks: where, what it does, and what to do instead."""

    module: str
    revision: str
    file: str
    line: int
    rule: str
    level: Level
    why: str
    mend: str
    sql: str = ""

    @property
    def said(self) -> str:
        """For people, in the form in which compilers say it."""
        return (
            f"{self.file}:{self.line}: {self.level}: {self.rule}: {self.why} {self.mend}".rstrip()
        )


def decide_findings(
    revisions: Sequence[Rendered], *, only: frozenset[str] | None = None
) -> list[Finding]:
    """What is wrong with revisions, those that are allowed with a reason left out.

    Args:
        revisions: all of a module's, from the first on: what a rule says of one
            depends on what those before it have made.
        only: the revisions whose findings are wanted; all if None.
    """
    found: list[Finding] = []
    so_far = SchemaSoFar()
    for revision in revisions:
        wanted = only is None or revision.revision in only
        if wanted:
            broken = [
                Finding(
                    module=revision.module,
                    revision=revision.revision,
                    file=revision.path,
                    line=each.line,
                    rule=each.rule,
                    level=RULES[each.rule].level,
                    why=each.why,
                    mend=RULES[each.rule].mend,
                    sql=each.sql,
                )
                for each in decide_broken_rules(revision, so_far)
            ]
            found += allowed(revision, broken)
        so_far.take(revision)
    return found


def allowed(revision: Rendered, found: Sequence[Finding]) -> list[Finding]:
    """The findings that a revision does not allow, and what is wrong with its allowances."""
    whole: set[str] = set()
    by_line: dict[int, set[str]] = {}
    left: list[Finding] = []
    for number, text in enumerate(_lines(revision.path), 1):
        match = _IGNORE.search(text)
        if match is None:
            continue
        if not match["rule"] or not _BECAUSE.match(match["rest"]):
            left.append(_unreasoned(revision, number))
        elif text[: match.start()].strip():
            by_line.setdefault(number, set()).add(match["rule"])
        else:
            whole.add(match["rule"])
    return left + [
        finding
        for finding in found
        if finding.rule not in whole and finding.rule not in by_line.get(finding.line, ())
    ]


def _unreasoned(revision: Rendered, line: int) -> Finding:
    rule = RULES["ignore-without-reason"]
    return Finding(
        module=revision.module,
        revision=revision.revision,
        file=revision.path,
        line=line,
        rule="ignore-without-reason",
        level=rule.level,
        why="It allows something, and does not say what and why.",
        mend=rule.mend,
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
