"""The pages that are made from the code are those that the code makes."""

from __future__ import annotations

import pytest

from tests.architecture import errors_page, guarantees_page, names_page
from tests.architecture.guarantees_said import PORTS

CONFORMANCE = guarantees_page.PAGE.parents[2] / "tests" / "conformance"


def test_the_error_catalogue_is_up_to_date() -> None:
    assert errors_page.PAGE.read_text(encoding="utf-8") == errors_page.errors_page(), (
        "The error classes and docs/reference/errors.md differ. Write the page anew: "
        "python -m tests.architecture.errors_page"
    )


def test_the_names_for_authors_are_up_to_date() -> None:
    assert names_page.PAGE.read_text(encoding="utf-8") == names_page.names_page(), (
        "The public names and docs/reference/names.md differ. If that is meant, write the page "
        "anew and read the difference: python -m tests.architecture.names_page"
    )


def test_the_guarantees_of_adapters_are_up_to_date() -> None:
    assert guarantees_page.PAGE.read_text(encoding="utf-8") == guarantees_page.guarantees_page(), (
        "The conformance suites and docs/reference/guarantees.md differ. Write the page anew: "
        "python -m tests.architecture.guarantees_page"
    )


def test_every_suite_is_among_the_guarantees() -> None:
    told = {suite for port in PORTS for suite in port.suites}
    assert told == set(guarantees_page.suites())


@pytest.mark.parametrize("file", sorted(path.stem for path in CONFORMANCE.glob("test_*.py")))
def test_every_test_class_that_runs_a_suite_is_that_of_an_adapter(file: str) -> None:
    suites = tuple(guarantees_page.suites().values())
    named = [adapter for port in PORTS for adapter in port.adapters if adapter.tests == file]
    for kind in guarantees_page.tested_classes(file):
        if issubclass(kind, suites):
            assert any(adapter.only in ("", kind.__name__) for adapter in named), kind.__name__


def test_no_adapter_is_without_the_cases_that_its_port_has() -> None:
    assert "| — |" not in guarantees_page.PAGE.read_text(encoding="utf-8")
