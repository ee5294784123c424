"""A revision's SQL, written down without a database: each statement with its line in the file."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

from tenfold.contracts.structs import Struct
from tenfold.tables.backfilling import Backfill
from tenfold.tables.revisions import Phase, backfill_of, phase_of, steps_from, transactional_of

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

__all__ = ["Rendered", "Written", "render", "split_statements"]

_PARTS: Final = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | (?P<tag>\$\w*\$).*?(?P=tag)
    | --[^\n]* | /\*.*?\*/ | ; | [^'"$;/-]+ | .""",
    re.VERBOSE | re.DOTALL,
)


class Written(Struct):
    """One statement, and the line of the revision that says it."""

    sql: str
    line: int


class Rendered(Struct):
    """A revision as SQL. `failure` says why there is no more of it than there is."""

    module: str
    revision: str
    told: str
    path: str
    phase: Phase
    transactional: bool
    backfill: Backfill | None
    statements: tuple[Written, ...]
    failure: str = ""


def render(module: str, script: ScriptDirectory, dialect: Any) -> list[Rendered]:
    """Every revision of a folder, from the first to the newest.

    Args:
        dialect: the database's, for tables.
    """
    from tenfold.tables.revisions import mistakes

    with mistakes(module, str(script.dir)):
        return [_render(module, step.revision, dialect) for step in steps_from(script, ())]


def _render(module: str, revision: Any, dialect: Any) -> Rendered:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    from tenfold.tables.columns import metadata
    from tenfold.tables.revisions import told

    heard = _Heard(str(revision.path))
    context = MigrationContext.configure(
        dialect=dialect,
        opts={"as_sql": True, "output_buffer": heard, "target_metadata": metadata()},
    )
    failure = ""
    try:
        with Operations.context(context):
            revision.module.upgrade()
    except Exception as error:  # a revision that asks the database something cannot be written down
        failure = f"{type(error).__name__}: {error}".strip()
    return Rendered(
        module=module,
        revision=str(revision.revision),
        told=told(revision),
        path=str(revision.path),
        phase=phase_of(revision),
        transactional=transactional_of(revision),
        backfill=backfill_of(revision),
        statements=tuple(heard.statements),
        failure=failure,
    )


class _Heard:
    """What Alembic writes its SQL to. Looks where in the revision it was said."""

    def __init__(self, path: str) -> None:
        self.statements: list[Written] = []
        self._path = path

    def write(self, text: str) -> None:
        """Take one or more statements."""
        line = 1
        frame: Any = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self._path:
                line = frame.f_lineno
                break
            frame = frame.f_back
        self.statements += [Written(sql=sql, line=line) for sql in split_statements(text)]

    def flush(self) -> None:
        """Nothing: it is all here."""


def split_statements(text: str) -> list[str]:
    """The statements of a text, without comments and the semicolons between them."""
    found, current = [], ""
    for match in _PARTS.finditer(text):
        part = match.group()
        if part == ";":
            found.append(current.strip())
            current = ""
        elif not part.startswith(("--", "/*")):
            current += part
    return [sql for sql in (*found, current.strip()) if sql]
