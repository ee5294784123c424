"""The rules for revisions of a product that never stops, and what they are read from."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tenfold.adapters.postgres.dialect import TableDialect
from tenfold.runtimes.linting import lint_module, squawk_findings
from tenfold.tables.errors import MigrationError
from tenfold.tables.lint import Finding, decide_findings
from tenfold.tables.lint_rules import RULES
from tenfold.tables.rendering import Rendered, render, split_statements
from tenfold.tables.revisions import read_script

FIRST = """
op.create_table(
    "things",
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("price", sa.Numeric(10, 2), nullable=False, server_default="0"),
)
"""


def folder(path: Path, *bodies: tuple[str, str]) -> Path:
    """Revisions: what `upgrade` does, and what the module says."""
    path.mkdir(exist_ok=True)
    for number, (body, words) in enumerate(bodies, 1):
        down = repr(f"{number - 1:04}") if number > 1 else "None"
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        (path / f"{number:04}.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            "from tenfold.tables.backfilling import Backfill\n"
            "from tenfold.tables.migration import create_search_index\n"
            f"revision = '{number:04}'\ndown_revision = {down}\n{words}\n"
            f"def upgrade():\n{lines}\n"
        )
    return path


def found(path: Path, *bodies: tuple[str, str]) -> list[Finding]:
    script = read_script("shop", folder(path, (FIRST, ""), *bodies))
    return decide_findings(render("shop", script, TableDialect()))


BEFORE, AFTER, ALONE = "", 'phase = "after"', "transactional = False"
ADD_CHECK = (
    'op.execute("ALTER TABLE things ADD CONSTRAINT given CHECK (note IS NOT NULL) NOT VALID")'
)
VALIDATE = 'op.execute("ALTER TABLE things VALIDATE CONSTRAINT given")'
SET_NOT_NULL = 'op.alter_column("things", "note", nullable=False)'
CASES = [
    ('op.drop_column("things", "note")', BEFORE, ["drop-before"]),
    ('op.drop_column("things", "note")', AFTER, []),
    ('op.drop_column("things", "price")', AFTER, []),
    ('op.drop_column("things", "name")', AFTER, ["drop-required"]),
    ('op.drop_table("things")', BEFORE, ["drop-before"]),
    ('op.drop_table("things")', AFTER, []),
    ('op.alter_column("things", "note", new_column_name="remark")', AFTER, ["rename"]),
    ('op.rename_table("things", "goods")', BEFORE, ["rename"]),
    ('op.alter_column("things", "note", type_=sa.BigInteger)', BEFORE, ["type-change"]),
    ('op.add_column("things", sa.Column("size", sa.BigInteger))', BEFORE, []),
    (
        'op.add_column("things", sa.Column("size", sa.BigInteger, nullable=False))',
        BEFORE,
        ["required-column"],
    ),
    (
        'op.add_column("things", sa.Column("s", sa.Text, nullable=False, server_default="x"))',
        BEFORE,
        [],
    ),
    (
        "op.add_column('things', sa.Column('u', sa.Uuid, server_default=sa.text('random()')))",
        BEFORE,
        ["volatile-default"],
    ),
    (
        'op.add_column("things", sa.Column("at", sa.DateTime, server_default=sa.func.now()))',
        BEFORE,
        [],
    ),
    (SET_NOT_NULL, BEFORE, ["not-null-before", "set-not-null"]),
    (SET_NOT_NULL, AFTER, ["set-not-null"]),
    ('op.create_index("by_name", "things", ["name"])', BEFORE, ["index-locks"]),
    (
        'op.create_index("by_name", "things", ["name"], unique=True)',
        BEFORE,
        ["index-locks", "constraint-before"],
    ),
    (
        'op.create_index("by_name", "things", ["name"], postgresql_concurrently=True)',
        BEFORE,
        ["concurrently-in-transaction"],
    ),
    (
        'op.create_index("by_name", "things", ["name"], postgresql_concurrently=True)',
        ALONE,
        ["not-repeatable"],
    ),
    (
        ('op.create_index("by_name", "things", ["name"], '
        "postgresql_concurrently=True, if_not_exists=True)"),
        ALONE,
        [],
    ),
    (
        ("with op.get_context().autocommit_block():\n"
        '    op.create_index("by_name", "things", ["name"], postgresql_concurrently=True)'),
        BEFORE,
        [],
    ),
    ('op.add_column("things", sa.Column("size", sa.BigInteger))', ALONE, ["locks-outside"]),
    ('op.create_unique_constraint("one", "things", ["name"])', AFTER, ["unique-locks"]),
    ('op.create_check_constraint("some", "things", "price > 0")', AFTER, ["constraint-locks"]),
    (
        'op.create_check_constraint("some", "things", "price > 0")',
        BEFORE,
        ["constraint-locks", "constraint-before"],
    ),
    (
        'op.create_foreign_key("ref", "things", "others", ["id"], ["id"])',
        AFTER,
        ["constraint-locks"],
    ),
    (ADD_CHECK, AFTER, []),
    (f"{ADD_CHECK}\n{VALIDATE}", AFTER, ["validate-at-once"]),
    ("op.execute(\"UPDATE things SET note = 'drop column'\")", BEFORE, ["unbatched-rows"]),
    ('op.execute("DELETE FROM things WHERE price = 0")', AFTER, ["unbatched-rows"]),
    ("op.get_bind().execute(sa.text('SELECT 1')).scalar_one()", BEFORE, ["not-rendered"]),
    (
        "pass",
        'phase = "before"\nbackfill = Backfill(table="things", key=("id",), values={"note": "1"})',
        ["backfill-before"],
    ),
    ("pass", 'backfill = Backfill(table="things", key=("id",), values={"note": "1"})', []),
    (('op.create_table("new", sa.Column("id", sa.BigInteger))\n'
     'op.create_index("new_index", "new", ["id"])\n'
     'op.execute("INSERT INTO new VALUES (1)")'), BEFORE, []),
    (
        'create_search_index("s", table="things", key=["tenant", "id"], columns=["name"])',
        BEFORE,
        ["index-locks"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("body", "words", "rules"), CASES)
def test_a_revision_breaks_these_rules(
    tmp_path: Path, body: str, words: str, rules: list[str]
) -> None:
    assert [finding.rule for finding in found(tmp_path, (body, words))] == rules


def test_every_rule_is_shown_and_says_how_to_mend() -> None:
    shown = {rule for _, _, rules in CASES for rule in rules} | {"ignore-without-reason"}
    assert shown == set(RULES)
    assert all(rule.mend for rule in RULES.values())


def test_the_page_lists_every_rule() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "migrate-without-stopping.md"
    text = page.read_text(encoding="utf-8").partition("## The rules")[2]
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) == set(RULES)


def test_a_column_that_a_validated_check_keeps_full_may_be_set_not_null(tmp_path: Path) -> None:
    steps = [(ADD_CHECK, AFTER), (VALIDATE, AFTER), (SET_NOT_NULL, AFTER)]
    assert found(tmp_path, *steps) == []


def test_a_required_column_that_was_made_optional_may_be_dropped(tmp_path: Path) -> None:
    ease = ('op.alter_column("things", "name", nullable=True)', BEFORE)
    assert found(tmp_path, ease, ('op.drop_column("things", "name")', AFTER)) == []


def test_a_finding_says_file_line_why_and_mend(tmp_path: Path) -> None:
    (finding,) = found(tmp_path, ('pass\nop.drop_column(\n    "things",\n    "note",\n)', BEFORE))
    assert finding.file == str(tmp_path / "0002.py")
    assert finding.line == 10
    assert finding.said.startswith(f"{finding.file}:10: error: drop-before: Code that still runs")
    assert 'phase = "after"' in finding.said


@pytest.mark.parametrize(
    "allowance",
    [
        "# tenfold: lint-ignore drop-before because nothing uses it",
        "#tenfold:lint-ignore drop-before because x",
    ],
)
def test_a_rule_is_allowed_for_a_reason(tmp_path: Path, allowance: str) -> None:
    drop = 'op.drop_column("things", "note")'
    assert found(tmp_path, (drop, allowance)) == []
    assert found(tmp_path, (f"{drop}  {allowance}", BEFORE)) == []
    both = f'{drop}  {allowance}\nop.drop_column("things", "price")'
    assert [finding.line for finding in found(tmp_path, (both, BEFORE))] == [10]


@pytest.mark.parametrize("said", ["", "drop-before", "drop-before because", "because"])
def test_nothing_is_allowed_without_a_reason(tmp_path: Path, said: str) -> None:
    drop = f'op.drop_column("things", "note")  # tenfold: lint-ignore {said}'
    rules = [finding.rule for finding in found(tmp_path, (drop, BEFORE))]
    assert sorted(rules) == ["drop-before", "ignore-without-reason"]


def test_only_the_findings_that_are_wanted_are_given(tmp_path: Path) -> None:
    drop = ('op.drop_column("things", "note")', BEFORE)
    script = read_script("shop", folder(tmp_path, (FIRST, ""), drop, drop))
    revisions = render("shop", script, TableDialect())
    assert [f.revision for f in decide_findings(revisions, only=frozenset({"0003"}))] == ["0003"]


def test_statements_are_parted_at_semicolons_that_part_them() -> None:
    text = """
    SELECT ';' ; -- a; comment
    /* ; */ CREATE FUNCTION f() AS $x$ BEGIN; END $x$;
    SELECT "a;b"
    """
    assert split_statements(text) == [
        "SELECT ';'",
        "CREATE FUNCTION f() AS $x$ BEGIN; END $x$",
        'SELECT "a;b"',
    ]


@pytest.mark.parametrize(
    "words",
    [
        'backfill = "things"',
        'backfill = Backfill(table="things", key=(), values={"note": "1"})',
        'backfill = Backfill(table="things", key=("id",), values={"note": "1"}, batch=0)',
        'statement_timeout_s = "long"\nphase = "late"',
    ],
)
def test_what_a_revision_says_wrong_is_refused(tmp_path: Path, words: str) -> None:
    with pytest.raises(MigrationError, match=r"0002 .*not applied"):
        found(tmp_path, ("pass", words))


def test_squawk_is_asked_where_it_is_installed(tmp_path: Path) -> None:
    truncate = ('op.execute("TRUNCATE things CASCADE")', AFTER)
    _, findings = lint_module("shop", folder(tmp_path, (FIRST, ""), truncate), postgres=True)
    revision = Rendered(
        module="shop", revision="1", told="1", path="1", phase="before",
        transactional=True, backfill=None, statements=(),
    )  # fmt: skip
    assert squawk_findings(revision) == []
    if not (shutil.which("squawk") or Path(sys.executable).with_name("squawk").exists()):
        assert findings == []
        return
    assert [(f.rule, f.line) for f in findings] == [("squawk/ban-truncate-cascade", 9)]
