"""What the revisions before one have made, as far as its rules have to know; and reading DDL."""

from __future__ import annotations

import re
from typing import Final

from tenfold.tables.rendering import Rendered

__all__ = ["NAME", "SchemaSoFar", "bare", "parts", "plain"]

NAME: Final = r'(?:(?:"[^"]+"|\w+)\.)?("[^"]+"|\w+)'
"""A name, quoted or not, with a schema or without."""
_CREATE_TABLE: Final = re.compile(
    rf"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?{NAME} ?\((.*)\)", re.IGNORECASE | re.DOTALL
)
_COLUMN: Final = re.compile(r'^("[^"]+"|\w+) (.*)$', re.DOTALL)
_NOT_COLUMNS: Final = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN", "EXCLUDE", "LIKE"}
_ALTER: Final = re.compile(
    rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME} (.*)$", re.IGNORECASE | re.DOTALL
)
_ADD_COLUMN: Final = re.compile(
    r'ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT\b)("[^"]+"|\w+) (.*)$',
    re.IGNORECASE | re.DOTALL,
)
_EASE: Final = re.compile(
    r'ALTER (?:COLUMN )?("[^"]+"|\w+) (?:DROP NOT NULL|SET DEFAULT)', re.IGNORECASE | re.DOTALL
)
_CHECKED: Final = re.compile(
    r'ADD CONSTRAINT ("[^"]+"|\w+) CHECK \(+ ?("[^"]+"|\w+) IS NOT NULL ?\)+(.*)$',
    re.IGNORECASE | re.DOTALL,
)
_VALIDATE: Final = re.compile(r'VALIDATE CONSTRAINT ("[^"]+"|\w+)', re.IGNORECASE)


def plain(sql: str) -> str:
    """A statement on one line, its texts emptied, so that what they say is not taken for SQL."""
    return re.sub(r"'(?:[^']|'')*'", "''", " ".join(sql.split()))


def bare(name: str) -> str:
    """A name without its quotes."""
    return name.strip('"')


class SchemaSoFar:
    """Tables, columns that must be given, and columns that are known not to be null."""

    def __init__(self) -> None:
        self.tables: set[str] = set()
        self.required: set[tuple[str, str]] = set()
        """Columns that an insert has to give."""
        self.never_null: set[tuple[str, str]] = set()
        """Columns of which a check that was validated says so."""
        self._checks: dict[tuple[str, str], str] = {}

    def take(self, revision: Rendered) -> None:
        """Go on to after a revision."""
        for statement in revision.statements:
            self._take(plain(statement.sql))

    def _take(self, sql: str) -> None:
        if made := _CREATE_TABLE.match(sql):
            table = bare(made[1])
            self.tables.add(table)
            for part in parts(made[2]):
                column = _COLUMN.match(part)
                if column and column[1].upper() not in _NOT_COLUMNS and _is_required(column[2]):
                    self.required.add((table, bare(column[1])))
        elif altered := _ALTER.match(sql):
            table = bare(altered[1])
            for action in parts(altered[2]):
                self._alter(table, action)

    def _alter(self, table: str, action: str) -> None:
        if checked := _CHECKED.match(action):
            self._checks[table, bare(checked[1])] = bare(checked[2])
            if "NOT VALID" not in checked[3].upper():
                self.never_null.add((table, bare(checked[2])))
        elif added := _ADD_COLUMN.match(action):
            if _is_required(added[2]):
                self.required.add((table, bare(added[1])))
        elif eased := _EASE.match(action):
            self.required.discard((table, bare(eased[1])))
        elif (valid := _VALIDATE.match(action)) and (table, bare(valid[1])) in self._checks:
            self.never_null.add((table, self._checks[table, bare(valid[1])]))


def _is_required(definition: str) -> bool:
    told = definition.upper()
    given = any(word in told for word in ("DEFAULT", "GENERATED", "SERIAL"))
    return "NOT NULL" in told and not given


def parts(text: str) -> list[str]:
    """What commas part that stand in no parentheses."""
    found, depth, current = [], 0, ""
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            found.append(current.strip())
            current = ""
        else:
            current += character
    return [*found, current.strip()]
