"""The root package hands out its names when they are first asked for, and loads no more."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tenfold


def for_type_checkers() -> dict[str, str]:
    """The names that the root imports for type checkers, and from where."""
    assert tenfold.__file__ is not None
    tree = ast.parse(Path(tenfold.__file__).read_text())
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.If):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                for name in line.names:
                    assert name.name == name.asname, "an explicit re-export"
                    found[name.name] = str(line.module)
    return found


def test_what_type_checkers_see_is_what_runs() -> None:
    assert for_type_checkers() == tenfold._HOMES
    assert sorted(tenfold.__all__) == sorted(tenfold._HOMES)
    assert tenfold.__all__ == sorted(tenfold.__all__)


@pytest.mark.parametrize("name", tenfold.__all__)
def test_a_name_is_that_of_its_home(name: str) -> None:
    assert getattr(tenfold, name) is getattr(import_module(tenfold._HOMES[name]), name)


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'tenfold' has no attribute 'Nothing'"):
        tenfold.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "contract",
    ["store.catalog.contract", "store.orders.contract", "tenfold.testing.probe.ledger_contract"],
)
def test_a_contract_loads_neither_the_path_nor_a_database(contract: str) -> None:
    script = f"import sys\nimport {contract}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    loaded = set(done.stdout.split())
    assert contract in loaded
    heavy = {"sqlalchemy", "sqlite3", "asyncio", "uvicorn", "starlette", "structlog"}
    inner = ("tenfold.path", "tenfold.adapters", "tenfold.runtimes", "tenfold.tables")
    assert not heavy & loaded
    assert not [name for name in loaded if name.startswith(inner)]
