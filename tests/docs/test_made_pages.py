"""The pages that are made from the code are those that the code makes."""

from __future__ import annotations

from tests.architecture import errors_page, names_page


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
