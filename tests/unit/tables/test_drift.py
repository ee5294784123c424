"""Differences between what is declared and what is there."""

from __future__ import annotations

from tenfold.tables.drift import decide_drift

TABLE = {("table", "things"): "exists"}


def test_what_is_equal_is_no_difference() -> None:
    declared = TABLE | {("column", "things.id"): "bigint"}
    assert decide_drift("shop", declared, dict(declared)) == []


def test_each_difference_is_told_as_a_line_of_a_diff() -> None:
    declared = TABLE | {("column", "things.a"): "bigint", ("column", "things.b"): "text"}
    found = TABLE | {("column", "things.b"): "bigint", ("column", "things.c"): "text"}
    drifts = decide_drift("shop", declared, found)
    assert [(drift.name, drift.state) for drift in drifts] == [
        ("things.a", "missing"),
        ("things.b", "different"),
        ("things.c", "unknown"),
    ]
    assert [drift.said for drift in drifts] == [
        "- column things.a bigint",
        "- column things.b text\n+ column things.b bigint",
        "+ column things.c text",
    ]


def test_of_a_table_that_is_missing_only_that_is_told() -> None:
    declared = TABLE | {("column", "things.a"): "bigint"}
    assert [drift.said for drift in decide_drift("shop", declared, {})] == ["- table things exists"]
    assert [drift.state for drift in decide_drift("shop", {}, declared)] == ["unknown"]


def test_a_check_under_another_name_is_there() -> None:
    declared = TABLE | {
        ("check", "things.one"): "CHECK (a > 0)",
        ("check", "things.two"): "CHECK (b)",
    }
    found = TABLE | {("check", "things.uno"): "CHECK (a > 0)"}
    assert [drift.name for drift in decide_drift("shop", declared, found)] == ["things.two"]
