"""Writes docs/reference/guarantees.md: `python -m tests.architecture.guarantees_page`.

What an adapter guarantees is what its port's suite asks of it. So the page is made
of the suites: their cases are its sentences, and an adapter has those whose test
classes inherit them. A case that asks for a capability is told by that flag.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
import textwrap
from pathlib import Path
from types import FunctionType
from typing import Any

import tenfold.testing
from tests.architecture.guarantees_said import PORTS, Adapter, Port

__all__ = ["PAGE", "guarantees_page", "suites", "tested_classes"]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "guarantees.md"
_HEAD = """\
# Guarantees of the adapters

<!-- Made by `python -m tests.architecture.guarantees_page`; a test fails
when it is not up to date. -->

A port says what a resource promises, and a suite in `tenfold.testing` asks for it, case by case.
Each sentence below is one case, and the tests run it against every adapter that has a ✓, on real
servers. Where a cell names a capability, the adapter declares that it lacks it, and the case is
left out by that flag. What outlasts a crash is no case of a suite: it is said of each adapter, and
`tests/faults` kills the store to see it.

How to run a suite against an adapter of your own:
[write an adapter](../how-to/write-an-adapter.md).
"""
# What a name in Python cannot say.
_SPELLED = {
    "anothers": "another's",
    "ones lease": "one's lease",
    "lanes whole": "lane's whole",
}


def suites() -> dict[str, type]:
    """Every class of cases in `tenfold.testing`, by `file.Class`."""
    found: dict[str, type] = {}
    for info in pkgutil.iter_modules(tenfold.testing.__path__):
        module = importlib.import_module(f"tenfold.testing.{info.name}")
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and kind.__module__ == module.__name__ and _cases(kind):
                found[f"{info.name}.{name}"] = kind
    return found


def tested_classes(file: str) -> list[type]:
    """The test classes of one file of `tests/conformance`."""
    module = importlib.import_module(f"tests.conformance.{file}")
    kinds = [each for each in vars(module).values() if inspect.isclass(each)]
    return [each for each in kinds if each.__module__ == module.__name__]


def _cases(suite: type) -> dict[str, FunctionType]:
    """The cases that a class adds to what it inherits, in the order in which they stand."""
    return {name: each for name, each in vars(suite).items() if name.startswith("test_")}


def _sentence(name: str) -> str:
    words = name.removeprefix("test_").replace("_", " ")
    for wrong, right in _SPELLED.items():
        words = words.replace(wrong, right)
    return words[0].upper() + words[1:]


def _flags(case: FunctionType, suite: type) -> set[str]:
    """The capabilities without which a case skips itself, by itself or in a method it calls."""
    found: set[str] = set()
    for node in ast.walk(_tree(case)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        called = ast.unparse(node.func)
        if called == "pytest.skip":
            found |= _asked(_tree(case))
        elif called.startswith("self._") and hasattr(suite, node.func.attr):
            found |= _asked(_tree(getattr(suite, node.func.attr)))
    return found


def _tree(function: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _asked(tree: ast.AST) -> set[str]:
    """The attributes of the bench that conditions before a skip name."""
    tests = (node.test for node in ast.walk(tree) if isinstance(node, ast.If))
    return {
        node.attr
        for test in tests
        for node in ast.walk(test)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "bench"
    }


def _lacks(adapter: Adapter, flags: set[str]) -> list[str]:
    """Which of these capabilities the adapter's bench declares that it lacks."""
    declared: dict[str, object] = {}
    for kind in tested_classes(adapter.tests):
        declared |= {flag: vars(kind)[flag] for flag in flags if flag in vars(kind)}
    return sorted(flag for flag, value in declared.items() if value is False)


def _passes(adapter: Adapter, suite: type) -> bool:
    return any(
        issubclass(kind, suite)
        for kind in tested_classes(adapter.tests)
        if kind.__name__.startswith("Test") and adapter.only in ("", kind.__name__)
    )


def _cell(adapter: Adapter, suite: type, case: FunctionType) -> str:
    if not _passes(adapter, suite):
        return "—"
    lacks = _lacks(adapter, _flags(case, suite))
    return f"no `{lacks[0]}`" if lacks else "✓"


def _suite(port: Port, suite: type) -> list[str]:
    said = " ".join((inspect.getdoc(suite) or "").split()).removesuffix(".")
    lines = [f"### {port.headings.get(suite.__name__, said)}", ""]
    names = [adapter.name for adapter in port.adapters]
    lines.append("| | " + " | ".join(names) + " |")
    lines.append("|---" * (len(names) + 1) + "|")
    for name, case in _cases(suite).items():
        cells = " | ".join(_cell(adapter, suite, case) for adapter in port.adapters)
        lines.append(f"| {_sentence(name)} | {cells} |")
    return [*lines, ""]


def _port(port: Port, found: dict[str, type]) -> list[str]:
    lines = [f"## {port.name}", "", port.said, ""]
    for adapter in port.adapters:
        kind = getattr(importlib.import_module(adapter.module), adapter.kind)
        first = " ".join((inspect.getdoc(kind) or "").partition("\n\nArgs:")[0].split())
        lines.append(f"- **{adapter.name}** (`{adapter.module}.{adapter.kind}`). {first}")
        lines.append(f"  *{adapter.lost}*")
    lines.append("")
    for reference in port.suites:
        lines += _suite(port, found[reference])
    return lines


def guarantees_page() -> str:
    """The whole page, a heading for each port and below it for each class of cases."""
    found = suites()
    page = [_HEAD]
    for port in PORTS:
        page += _port(port, found)
    return "\n".join(page).rstrip("\n") + "\n"


if __name__ == "__main__":
    PAGE.write_text(guarantees_page(), encoding="utf-8")
    print(f"{PAGE} is written.", file=sys.stderr)
