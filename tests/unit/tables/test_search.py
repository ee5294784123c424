"""What people type into a search is words, never syntax."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, Table, Text, bindparam, select

from tenfold.adapters.sqlite.planner import Planner
from tenfold.tables.columns import metadata, tenant
from tenfold.tables.errors import ParameterError, TableDeclarationError
from tenfold.tables.search import (
    SearchIndex,
    create_search_sql,
    drop_search_sql,
    fts5_query,
    matches,
    ts_query,
)

WORDS = Table(
    "words",
    metadata(),
    tenant(),
    Column("id", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("body", Text),
    Column("plain", Text),
)
INDEX = SearchIndex("words_search", WORDS.c.title, WORDS.c.body)
SYNTAX = st.text(st.sampled_from("\"'*():^+-{}[]\\ \t\n\x00ANDORNEATabcé_%;,.|&!<>~"), max_size=40)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute(
        "CREATE TABLE words (tenant TEXT, id INTEGER, title TEXT, body TEXT, plain TEXT,"
        " PRIMARY KEY (tenant, id))"
    )
    made.execute("INSERT INTO words VALUES ('main', 1, 'old chair', 'green', '')")
    for statement in create_search_sql("words_search", "words", INDEX.key, INDEX.columns, "sqlite"):
        made.execute(statement)
    yield made
    made.close()


def ask(connection: sqlite3.Connection, column: Column[str], typed: str) -> list[int]:
    plan = Planner(module="m", scoped=True, projections={}).plan(
        select(WORDS.c.id).where(matches(column, bindparam("typed")))
    )
    return [row[0] for row in connection.execute(*plan.render({"typed": typed}, "main", {}))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(typed=st.one_of(SYNTAX, st.text(st.characters(codec="utf-8"))))
def test_no_text_is_an_error(connection: sqlite3.Connection, typed: str) -> None:
    connection.execute(
        "SELECT 1 FROM words_search WHERE words_search MATCH ?", (fts5_query(typed),)
    )
    assert ask(connection, WORDS.c.title, typed) in ([], [1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(title=st.text(st.characters(codec="ascii"), min_size=1, max_size=60))
def test_a_title_is_found_by_itself(connection: sqlite3.Connection, title: str) -> None:
    connection.execute("UPDATE words SET title = ?", (title,))
    wanted = [1] if fts5_query(title) != '""' else []
    assert ask(connection, WORDS.c.title, title) == wanted


@settings(deadline=None)
@given(SYNTAX)
def test_the_query_is_quoted_words_only(typed: str) -> None:
    for part in fts5_query(typed).split(" AND "):
        assert part == '""' or (part[0] == '"' and part.endswith('"*') and part[1:-2].isalnum())
    for part in ts_query(typed).split(" & "):
        assert part == "'!'" or (part[0] == "'" and part[1:-3].isalnum() and part[-3:] == "':*")


def test_rows_that_were_there_before_the_index_are_found(connection: sqlite3.Connection) -> None:
    assert ask(connection, WORDS.c.title, "chair") == [1]


def test_each_column_is_searched_for_itself(connection: sqlite3.Connection) -> None:
    assert ask(connection, WORDS.c.body, "green") == [1]
    assert ask(connection, WORDS.c.body, "chair") == []
    assert ask(connection, WORDS.c.title, "green") == []


def test_it_stays_right_after_the_file_was_vacuumed(connection: sqlite3.Connection) -> None:
    connection.executemany(
        "INSERT INTO words VALUES ('main', ?, ?, '', '')",
        [(number, f"stool number{number}") for number in range(2, 50)],
    )
    connection.execute("DELETE FROM words WHERE id % 2 = 0")
    connection.execute("VACUUM")
    assert ask(connection, WORDS.c.title, "number7") == [7]
    assert ask(connection, WORDS.c.title, "number8") == []
    assert len(ask(connection, WORDS.c.title, "stool")) == 24


def test_a_changed_key_is_followed(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE words SET id = 77")
    assert ask(connection, WORDS.c.title, "chair") == [77]


def test_dropped_it_leaves_its_table_writable(connection: sqlite3.Connection) -> None:
    for statement in drop_search_sql("words_search", INDEX.columns, "sqlite"):
        connection.execute(statement)
    connection.execute("INSERT INTO words VALUES ('main', 2, 'new', '', '')")
    left = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE 'words_search%'")
    assert left.fetchall() == []


def test_a_column_without_an_index_and_a_value_that_is_no_text_are_refused(
    connection: sqlite3.Connection,
) -> None:
    with pytest.raises(TableDeclarationError, match="none is declared over this column"):
        matches(WORDS.c.plain, "x")
    with pytest.raises(ParameterError, match="given NoneType, not text"):
        ask(connection, WORDS.c.title, None)  # type: ignore[arg-type]
    with pytest.raises(TableDeclarationError, match="text columns of one table"):
        SearchIndex("wrong", WORDS.c.id)
