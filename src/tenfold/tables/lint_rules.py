"""The rules for revisions of a product that never stops: what each finds, why, and the mend."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

from tenfold.contracts.structs import Struct
from tenfold.tables.lint_state import NAME, SchemaSoFar, bare, parts, plain
from tenfold.tables.rendering import Rendered

__all__ = ["RULES", "Broken", "Rule", "decide_broken_rules"]


class Rule(Struct):
    """How bad it is, and what to do instead."""

    level: Literal["error", "warning"]
    mend: str


class Broken(Struct):
    """A rule that a statement breaks."""

    rule: str
    line: int
    why: str
    sql: str


_TWO_STEPS = "Add the new one, fill it by a backfill, and drop the old one in phase after."
RULES: Final = {
    "drop-before": Rule(level="error", mend='Say phase = "after", once no new code uses it.'),
    "rename": Rule(level="error", mend=_TWO_STEPS),
    "type-change": Rule(level="error", mend=_TWO_STEPS),
    "required-column": Rule(
        level="error",
        mend="Let it be nullable, or give it a server_default.",
    ),
    "drop-required": Rule(
        level="error", mend="Let it be nullable in a revision of phase before: alter_column."
    ),
    "not-null-before": Rule(level="error", mend='Say phase = "after".'),
    "set-not-null": Rule(
        level="warning",
        mend="Add a check (column IS NOT NULL) NOT VALID, VALIDATE it in the next revision, "
        "then set it.",
    ),
    "volatile-default": Rule(
        level="warning",
        mend="Add the column without it, set the default in the next revision, and fill the rows "
        "by a backfill.",
    ),
    "index-locks": Rule(
        level="warning",
        mend="Say transactional = False, and postgresql_concurrently=True and "
        "if_not_exists=True in op.create_index.",
    ),
    "unique-locks": Rule(
        level="warning",
        mend="Make a unique index concurrently, then ADD CONSTRAINT ... UNIQUE USING INDEX.",
    ),
    "constraint-locks": Rule(
        level="warning",
        mend="Add it NOT VALID (postgresql_not_valid=True), and VALIDATE CONSTRAINT in the next "
        "revision.",
    ),
    "constraint-before": Rule(
        level="warning",
        mend='Say phase = "after", unless the code of before never writes what it refuses.',
    ),
    "validate-at-once": Rule(level="warning", mend="Validate in a revision of its own."),
    "concurrently-in-transaction": Rule(level="error", mend="Say transactional = False."),
    "not-repeatable": Rule(
        level="warning", mend="Say if_not_exists=True, or if_exists=True where it drops."
    ),
    "locks-outside": Rule(
        level="warning", mend="Move it to a revision of its own, which is transactional."
    ),
    "unbatched-rows": Rule(level="warning", mend="Say it as backfill = Backfill(...)."),
    "backfill-before": Rule(level="warning", mend='Say phase = "after", or say no phase.'),
    "not-rendered": Rule(
        level="warning", mend="Look at it yourself; say what changes rows as a backfill."
    ),
    "ignore-without-reason": Rule(
        level="error", mend="Write `# tenfold: lint-ignore RULE because REASON`."
    ),
}
"""Every rule by its name."""

_VOLATILE: Final = re.compile(
    r"DEFAULT .*(random\(|gen_random_uuid|uuid_generate|uuidv[47]\(|clock_timestamp|timeofday"
    r"|nextval|txid_current)|GENERATED ALWAYS AS \(|GENERATED .* AS IDENTITY|SERIAL\b",
    re.IGNORECASE,
)
_CREATE: Final = re.compile(rf"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?{NAME}", re.IGNORECASE)
_INDEX: Final = re.compile(
    rf"CREATE (UNIQUE )?INDEX (CONCURRENTLY )?(IF NOT EXISTS )?(?:{NAME} )?ON (?:ONLY )?{NAME}",
    re.IGNORECASE,
)
_DROP_INDEX: Final = re.compile(r"DROP INDEX (CONCURRENTLY )?(IF EXISTS )?", re.IGNORECASE)
_DROP_TABLE: Final = re.compile(rf"DROP (?:TABLE|VIEW) (?:IF EXISTS )?{NAME}", re.IGNORECASE)
_ALTER: Final = re.compile(rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME} (.*)$", re.IGNORECASE)
_ROWS: Final = re.compile(rf"(?:UPDATE|DELETE FROM) (?:ONLY )?{NAME}", re.IGNORECASE)
_NAME1: Final = r'("[^"]+"|\w+)'


def decide_broken_rules(revision: Rendered, so_far: SchemaSoFar) -> list[Broken]:
    """What is wrong with one revision.

    Args:
        so_far: what those before it have made.
    """
    return list(_broken(revision, so_far))


def _broken(revision: Rendered, so_far: SchemaSoFar) -> Iterator[Broken]:
    made: set[str] = set()  # nobody else knows a table that is made here
    unchecked: set[str] = set()
    within = revision.transactional
    for statement in revision.statements:
        sql = plain(statement.sql)
        if sql in ("COMMIT", "BEGIN"):  # an autocommit_block
            within = sql == "BEGIN"
            continue
        if created := _CREATE.match(sql):
            made.add(bare(created[1]))
            continue
        for rule, why in (
            *_of_tables(sql, revision, so_far, made, unchecked),
            *_of_transaction(sql, revision, within),
        ):
            yield Broken(rule=rule, line=statement.line, why=why, sql=sql[:300])
    if revision.backfill is not None and revision.phase == "before":
        yield Broken(
            rule="backfill-before",
            line=1,
            why="Code that still runs may write rows behind the backfill, which stay as they are.",
            sql="",
        )
    if revision.failure:
        yield Broken(
            rule="not-rendered",
            line=1,
            why=f"It cannot be written as SQL without a database ({revision.failure}), so that "
            "not all of it was checked.",
            sql="",
        )


_Found = Iterator[tuple[str, str]]


def _of_tables(
    sql: str, revision: Rendered, so_far: SchemaSoFar, made: set[str], unchecked: set[str]
) -> _Found:
    if index := _INDEX.match(sql):
        table = bare(index[5])
        if table not in made:
            if not index[2]:
                yield "index-locks", f"While the index is made nobody can write to {table}."
            if index[1] and revision.phase == "before":
                yield (
                    "constraint-before",
                    f"The code of before may write to {table} what the unique index refuses.",
                )
    elif dropped := _DROP_TABLE.match(sql):
        if revision.phase == "before":
            yield "drop-before", f"Code that still runs uses {bare(dropped[1])}."
    elif altered := _ALTER.match(sql):
        table = bare(altered[1])
        if table not in made:
            for action in parts(altered[2]):
                yield from _of_column(table, action, revision, so_far)
                yield from _of_constraint(table, action, revision, unchecked)
    elif (rows := _ROWS.match(sql)) and bare(rows[1]) not in made:
        yield (
            "unbatched-rows",
            f"It holds every row that it changes of {bare(rows[1])} until its transaction ends.",
        )


def _of_column(table: str, action: str, revision: Rendered, so_far: SchemaSoFar) -> _Found:
    before = revision.phase == "before"
    if dropped := re.match(
        rf"DROP (?:COLUMN )?(?:IF EXISTS )?(?!CONSTRAINT\b){_NAME1}", action, re.IGNORECASE
    ):
        column = bare(dropped[1])
        if before:
            yield "drop-before", f"Code that still runs uses {table}.{column}."
        elif (table, column) in so_far.required:
            yield (
                "drop-required",
                (
                    f"New code, which knows {table}.{column} no more, runs before it is dropped, "
                    "and cannot insert: the column is NOT NULL without a default."
                ),
            )
    elif re.match(r"RENAME (?!CONSTRAINT\b)", action, re.IGNORECASE):
        yield "rename", f"Whatever is renamed in {table}, old code or new code does not find it."
    elif changed := re.match(
        rf"ALTER (?:COLUMN )?{_NAME1} (?:SET DATA )?TYPE ", action, re.IGNORECASE
    ):
        yield (
            "type-change",
            (
                f"{table} is written anew, as a rule, and locked meanwhile; and code that still "
                f"runs knows {bare(changed[1])} as another type."
            ),
        )
    elif null := re.match(rf"ALTER (?:COLUMN )?{_NAME1} SET NOT NULL", action, re.IGNORECASE):
        column = bare(null[1])
        if before:
            yield "not-null-before", f"Code that still runs may leave {table}.{column} empty."
        if (table, column) not in so_far.never_null:
            yield (
                "set-not-null",
                f"{table} is locked for reads and writes while it is read through.",
            )
    elif added := re.match(
        rf"ADD (?:COLUMN )?(?:IF NOT EXISTS )?(?!CONSTRAINT\b){_NAME1} (.*)$", action, re.IGNORECASE
    ):
        column, said = bare(added[1]), added[2]
        if "NOT NULL" in said.upper() and not re.search(
            r"DEFAULT|GENERATED|SERIAL", said, re.IGNORECASE
        ):
            yield (
                "required-column",
                (
                    f"{table}.{column} is NOT NULL without a default: it fails where there are "
                    "rows, and code that still runs cannot insert."
                ),
            )
        if _VOLATILE.search(said):
            yield "volatile-default", f"{table} is written anew, and locked meanwhile."


def _of_constraint(table: str, action: str, revision: Rendered, unchecked: set[str]) -> _Found:
    if valid := re.match(rf"VALIDATE CONSTRAINT {_NAME1}", action, re.IGNORECASE):
        if bare(valid[1]) in unchecked and revision.transactional:
            yield (
                "validate-at-once",
                (
                    f"The lock on {table} that adding the constraint took is held while it is read "
                    "through."
                ),
            )
        return
    added = re.match(
        rf"ADD (?:CONSTRAINT {_NAME1} )?(CHECK|FOREIGN KEY|UNIQUE|PRIMARY KEY|EXCLUDE)",
        action,
        re.IGNORECASE,
    )
    if added is None:
        return
    kind = added[2].upper()
    if kind in ("CHECK", "FOREIGN KEY"):
        if "NOT VALID" in action.upper():
            unchecked.add(bare(added[1] or ""))
        else:
            yield "constraint-locks", f"{table} is locked for writes while it is read through."
    elif "USING INDEX" not in action.upper():
        yield "unique-locks", f"{table} is locked for reads and writes while the index is made."
    if revision.phase == "before":
        yield (
            "constraint-before",
            f"The code of before may write to {table} what the constraint refuses.",
        )


def _of_transaction(sql: str, revision: Rendered, within: bool) -> _Found:
    index, dropped = _INDEX.match(sql), _DROP_INDEX.match(sql)
    concurrently = bool((index and index[2]) or (dropped and dropped[1]))
    if concurrently and within:
        yield (
            "concurrently-in-transaction",
            "PostgreSQL refuses what is made concurrently inside a transaction.",
        )
    if within or revision.transactional:
        return
    if concurrently and not ((index and index[3]) or (dropped and dropped[2])):
        yield (
            "not-repeatable",
            (
                "Each statement is a transaction of its own: killed behind this one, the revision "
                "begins again and fails at it."
            ),
        )
    elif not concurrently and not re.search(r"VALIDATE CONSTRAINT", sql, re.IGNORECASE):
        yield (
            "locks-outside",
            (
                "In a revision that is not transactional a statement waits long for a lock, with "
                "everybody else behind it."
            ),
        )
