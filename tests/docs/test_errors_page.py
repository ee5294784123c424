"""The error catalogue in the docs is that of the classes."""

from __future__ import annotations

from tests.architecture.errors_page import PAGE, errors_page


def test_the_error_catalogue_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == errors_page(), (
        "The error classes and docs/reference/errors.md differ. Write the page anew: "
        "python -m tests.architecture.errors_page"
    )
