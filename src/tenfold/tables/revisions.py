"""A module's folder of revisions: what is in it, in which order, and what a mistake in it means.

A module's `migrations/` holds Alembic's revision files and nothing else: no
`env.py`, no ini file. A revision may say in which phase of a roll-out it runs:

    phase = "before"    # the code of before and the new code both run on it: the default
    phase = "after"     # only once no process runs the code of before any more

and what else the server has to know:

    transactional = False       # each statement by itself: for an index made CONCURRENTLY
    statement_timeout_s = 600   # a statement that may hold its locks for longer than usual
    backfill = Backfill(...)    # rows changed in batches, before its upgrade()

Alembic costs 0.2 s and 8 MB when it is first used. So a database keeps the
folder's fingerprint, and a start with nothing to do stops there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from tenfold.tables.backfilling import Backfill
from tenfold.tables.errors import MigrationError

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

__all__ = [
    "PHASES",
    "Phase",
    "backfill_of",
    "fingerprint_of",
    "is_ahead",
    "mistakes",
    "next_steps",
    "phase_of",
    "read_script",
    "statement_timeout_of",
    "steps_from",
    "told",
    "transactional_of",
]

Phase = Literal["before", "after"]
PHASES: Final[tuple[Phase, ...]] = ("before", "after")
"""Both, in the order in which they run."""


def fingerprint_of(migrations: Path) -> str | None:
    """A digest of the revision files; None where there are none."""
    files = sorted(path for path in migrations.glob("*.py") if path.name != "__init__.py")
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        body = path.read_bytes()
        digest.update(f"{path.name}\0{len(body)}\0".encode() + body)
    return digest.hexdigest()


def read_script(module: str, migrations: Path) -> ScriptDirectory:
    """The revisions of a folder, linked.

    Raises: MigrationError (NOT_DONE) where one cannot be read, or they have several ends.
    """
    from alembic.script import ScriptDirectory

    with mistakes(module, str(migrations)):
        script = ScriptDirectory(str(migrations), version_locations=[str(migrations)])
        heads = script.get_heads()
    if len(heads) > 1:
        raise MigrationError(
            f"The migrations of module {module!r} in {migrations} have {len(heads)} ends: "
            f"{', '.join(sorted(heads))}. Nothing was applied. Let one of them follow the other: "
            "set its down_revision."
        )
    return script


def next_steps(script: ScriptDirectory, heads: Any, phases: Sequence[Phase] = PHASES) -> list[Any]:
    """The steps from a database's revision to the newest, up to the first of another phase."""
    allowed: list[Any] = []
    for step in steps_from(script, heads):
        if phase_of(step.revision) not in phases:
            break
        allowed.append(step)
    return allowed


def steps_from(script: ScriptDirectory, heads: Any) -> list[Any]:
    """All steps from a database's revision to the newest, in order."""
    return list(script._upgrade_revs("head", heads))


def is_ahead(script: ScriptDirectory, heads: Sequence[str]) -> bool:
    """Whether a database is at a revision that the folder does not have, as newer code's may."""
    known = {revision.revision for revision in script.walk_revisions()}
    return not known.issuperset(heads)


def phase_of(revision: Any) -> Phase:
    """The phase that a revision says; else `after` for one with a backfill, `before` for others.

    Raises: MigrationError (NOT_DONE) for another word.
    """
    fills = getattr(revision.module, "backfill", None) is not None
    found = getattr(revision.module, "phase", "after" if fills else "before")
    for phase in PHASES:
        if found == phase:
            return phase
    raise MigrationError(
        f"Revision {revision.revision} ({revision.path}) has phase = {found!r}, which is none of "
        f"{', '.join(map(repr, PHASES))}. It was not applied."
    )


def transactional_of(revision: Any) -> bool:
    """Whether a revision is one transaction, as nearly all are."""
    return getattr(revision.module, "transactional", True) is not False


def statement_timeout_of(revision: Any) -> float | None:
    """How many seconds one of its statements may take; None where it says nothing of it."""
    found = getattr(revision.module, "statement_timeout_s", None)
    if found is None or (isinstance(found, int | float) and found >= 0):
        return found
    raise MigrationError(
        f"Revision {revision.revision} ({revision.path}) has statement_timeout_s = {found!r}, "
        "which is no number of seconds. It was not applied."
    )


def backfill_of(revision: Any) -> Backfill | None:
    """What a revision changes in batches.

    Raises: MigrationError (NOT_DONE) where that is not said as it should be.
    """
    found = getattr(revision.module, "backfill", None)
    if found is None:
        return None
    try:
        # Values are checked here: making a struct does not.
        made = msgspec.convert(msgspec.to_builtins(found), Backfill)
        if not (isinstance(found, Backfill) and made.key and made.values):
            raise TypeError("it needs a table, a key and values")
    except (TypeError, msgspec.ValidationError) as error:
        raise MigrationError(
            f"Revision {revision.revision} ({revision.path}) has a backfill that cannot be run: "
            f"{error}. It was not applied. Write it as backfill = Backfill(table=..., key=(...), "
            "values={...}), of tenfold.tables.backfilling."
        ) from error
    return made


def told(revision: Any) -> str:
    """A revision as people read it: `0002 add a column`."""
    return f"{revision.revision} {revision.doc or ''}".strip()


@contextmanager
def mistakes(
    module: str, place: str, taken: Sequence[Any] | None = None, blocked_by: Sequence[str] = ()
) -> Iterator[None]:
    """Tell whatever fails in a revision with its place.

    Args:
        taken: the step being applied, as its first item, once there is one.
        blocked_by: who was seen to hold what it waited for, filled meanwhile.
    """
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:
        where = f"in {place}"
        if taken:
            where = f"revision {taken[0].revision.revision} ({taken[0].revision.path})"
        cause = str(error).partition("\n[SQL:")
        sql = f" Statement: {' '.join(cause[2].split())[:300]}" if cause[2] else ""
        mend = "Mend the revision and start again."
        if "Can't locate revision" in cause[0]:
            mend = (
                "The database was migrated by code that is newer than this folder, or a revision "
                "was deleted: start the newer code, or put the revision back."
            )
        elif "database is locked" in cause[0]:
            mend = "Another process writes to the file: end it, then start again."
        elif "lock timeout" in cause[0]:
            who = "; ".join(blocked_by) or "see pg_stat_activity"
            mend = (
                f"Another transaction held a table that it needs: {who}. Let it end, or end it "
                "with pg_terminate_backend, then start again."
            )
        elif "statement timeout" in cause[0]:
            mend = (
                "It held its locks for longer than a statement may. Change rows in batches with "
                "a backfill, or say `statement_timeout_s` in the revision."
            )
        left = "It left nothing behind"
        if taken and not transactional_of(taken[0].revision):
            left = "It is not transactional, so that what it did before stays"
        raise MigrationError(
            f"A migration of module {module!r} failed, {where}: {type(error).__name__}: "
            f"{cause[0]}.{sql} {left}; those before it are applied. {mend}"
        ) from error
