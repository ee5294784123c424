"""Writes docs/reference/errors.md: `python -m tests.architecture.errors_page`.

A page that is written by hand says what errors meant when it was written. This
one is made of the docstrings that also become the titles of problems, and a
test fails when the two part.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tenfold.cli.entry import _MISTAKES, _UNAVAILABLE
from tenfold.contracts.errors import TenfoldError
from tenfold.edges.http.errors import HttpError
from tenfold.edges.http.problems import ERROR_STATUS
from tests.architecture.test_house import all_errors

__all__ = ["PAGE", "errors_page"]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
_HEAD = """\
# Error catalogue

<!-- Made by `python -m tests.architecture.errors_page`; a test fails when it is not up to date. -->

Every error that Tenfold itself raises is a `TenfoldError` with a stable `code` and an `outcome`.
Refusals, which modules declare in their contracts, are not errors and are not listed here: a
product's own are at its `/docs`.

- **Outcome** says what became of the work. `not_done`: nothing was committed, so it may be sent
  again. `maybe_done`: it cannot be known; only a keyed command may be sent again. `done`: it is
  committed. The table has what the class says; one error may say otherwise for itself, and what
  is in the answer counts.
- **HTTP** is the status where the error comes out of an operation over HTTP. Every error without a
  status of its own is a fault of the product: 500. Those that can only happen at start, on the
  command line or in tests never get that far.
- **Exit** is the exit code of `tenfold` where the error ends a command.
"""


def _status(kind: type[TenfoldError]) -> int:
    return kind.status if issubclass(kind, HttpError) else ERROR_STATUS.get(kind.code, 500)


def _exit_code(kind: type[TenfoldError]) -> int:
    if kind.code in _MISTAKES:
        return 2
    return 3 if kind.code in _UNAVAILABLE else 1


def _meaning(kind: type[TenfoldError]) -> str:
    text = " ".join((kind.__doc__ or "").split())
    return text.replace("|", "\\|")


def errors_page() -> str:
    """The whole page, in order of code, under a heading for each first part of a code."""
    by_part: dict[str, list[type[TenfoldError]]] = {}
    for kind in sorted(all_errors(), key=lambda kind: kind.code):
        by_part.setdefault(kind.code.partition(".")[0], []).append(kind)
    page = [_HEAD]
    for part, kinds in by_part.items():
        page.append(f"## {part}\n")
        page.append("| code | class | outcome | HTTP | exit | what it says |")
        page.append("|---|---|---|---|---|---|")
        page += [
            f"| `{kind.code}` | `{kind.__module__}.{kind.__name__}` | `{kind.outcome.value}` "
            f"| {_status(kind)} | {_exit_code(kind)} | {_meaning(kind)} |"
            for kind in kinds
        ]
        page.append("")
    return "\n".join(page)


if __name__ == "__main__":
    PAGE.write_text(errors_page(), encoding="utf-8")
    print(f"{PAGE} is written: {len(all_errors())} errors.", file=sys.stderr)
