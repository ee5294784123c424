"""Revisions, looked through before they are applied: by our own rules, and by squawk if there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.tables.lint import Finding, allowed, decide_findings
from tenfold.tables.lint_state import plain
from tenfold.tables.rendering import Rendered, render
from tenfold.tables.revisions import fingerprint_of, read_script

__all__ = ["decide_refusal", "lint_module", "squawk_findings"]

_TIMEOUT_S: Final = 30
_LEFT_OUT: Final = (
    # Said by Tenfold itself, for every revision.
    "require-lock-timeout,require-statement-timeout,prefer-robust-stmts,require-enum-value-ordering,"
    # Our own rules, which know the phase and the tables that are made in the revision.
    "adding-field-with-default,adding-foreign-key-constraint,adding-not-nullable-field,"
    "adding-required-field,adding-serial-primary-key-field,ban-drop-column,ban-drop-table,"
    "ban-drop-not-null,changing-column-type,constraint-missing-not-valid,"
    "disallowed-unique-constraint,renaming-column,renaming-table,"
    "require-concurrent-index-creation,ban-concurrent-index-creation-in-transaction,"
    # Matters of taste.
    "prefer-bigint-over-int,prefer-bigint-over-smallint,prefer-identity,prefer-text-field,"
    "prefer-timestamptz"
)


class _Said(Struct):
    """What squawk says of one place."""

    line: int
    message: str
    rule_name: str
    help: str | None = None


def lint_module(
    module: str, folder: Path, *, postgres: bool, only: frozenset[str] | None = None
) -> tuple[list[Rendered], list[Finding]]:
    """A module's revisions as SQL, and what is wrong with them on PostgreSQL.

    Args:
        postgres: in whose SQL they are rendered; on SQLite nothing is found, since
            one process has the file.
        only: the revisions whose findings are wanted; all if None.
    Raises: MigrationError (NOT_DONE) where one cannot be read.
    """
    if fingerprint_of(folder) is None:
        return [], []
    rendered = render(module, read_script(module, folder), _dialect(postgres))
    if not postgres:
        return rendered, []
    found = decide_findings(rendered, only=only)
    for revision in rendered:
        if only is None or revision.revision in only:
            found += allowed_of_squawk(revision)
    return rendered, found


def decide_refusal(findings: Sequence[Finding]) -> str:
    """Why a migration is refused; empty where none of its findings is an error."""
    errors = [finding.said for finding in findings if finding.level == "error"]
    if not errors:
        return ""
    shown = "\n".join(f"  {said}" for said in errors[:10])
    return (
        f"The migration would fail, or break code that runs meanwhile, in {len(errors)} places. "
        f"Nothing was applied.\n{shown}\nMend them; or allow one, with the reason, by a line "
        "`# tenfold: lint-ignore RULE because REASON` in its revision."
    )


def allowed_of_squawk(revision: Rendered) -> list[Finding]:
    """What squawk says of a revision and the revision does not allow."""
    found = squawk_findings(revision)
    return [finding for finding in allowed(revision, found) if finding in found]


def squawk_findings(revision: Rendered) -> list[Finding]:
    """What squawk, a linter for PostgreSQL, says of a revision; nothing where it is not installed.

    `pip install squawk-cli` installs it; `allowed_of_squawk` leaves out what is allowed.
    """
    program = _squawk()
    if program is None or not revision.statements:
        return []
    text = "".join(f"{plain(statement.sql)};\n" for statement in revision.statements)
    command = [program, "--reporter", "json", "--stdin-filepath", "revision.sql"]
    command += [f"--exclude={_LEFT_OUT}"]
    command += ["--assume-in-transaction"] if revision.transactional else []
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    try:
        said = msgspec.json.decode(done.stdout, type=list[_Said])
    except msgspec.DecodeError:
        return []
    return [_finding(revision, each) for each in said]


def _finding(revision: Rendered, said: _Said) -> Finding:
    statement = revision.statements[min(said.line, len(revision.statements) - 1)]
    return Finding(
        module=revision.module,
        revision=revision.revision,
        file=revision.path,
        line=statement.line,
        rule=f"squawk/{said.rule_name}",
        level="warning",
        why=said.message,
        mend=said.help or "",
        sql=plain(statement.sql)[:300],
    )


def _squawk() -> str | None:
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.exists() else shutil.which("squawk")


def _dialect(postgres: bool) -> Any:
    if postgres:
        from tenfold.adapters.postgres.dialect import TableDialect

        return TableDialect()  # type: ignore[no-untyped-call]
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

    return SQLiteDialect_pysqlite()
