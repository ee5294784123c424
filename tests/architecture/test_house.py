"""The house: sizes, names, public surface, error codes."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import tenfold
from tenfold.contracts.errors import TenfoldError
from tests.architecture import golden

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).with_name("public_names.txt")
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}
MAX_LINES = 500
MAX_FUNCTION_LINES = 60


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {".venv", "build", "dist", "__pycache__"} & set(path.parts):
                yield path


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def all_errors() -> list[type[TenfoldError]]:
    for module in pkgutil.walk_packages(tenfold.__path__, "tenfold."):
        importlib.import_module(module.name)
    found: list[type[TenfoldError]] = []
    ahead: list[type[TenfoldError]] = [TenfoldError]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind.__module__.partition(".")[0] == "tenfold":
            found.append(kind)
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


def test_no_file_is_longer_than_500_lines() -> None:
    long = {
        shown(path): lines
        for path in python_files("src", "examples", "tests", "benchmarks")
        if (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long, f"Split them by what they are about: {long}"


def test_no_function_is_longer_than_60_lines() -> None:
    long: list[str] = []
    for path in python_files("src", "examples"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{shown(path)}:{node.lineno} {node.name} ({lines})")
    assert not long, f"Split them: {long}"


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    nameless = [
        shown(path)
        for path in python_files("src", "examples", "tests", "benchmarks")
        if FORBIDDEN & {path.stem, *(part for part in path.relative_to(ROOT).parts)}
    ]
    assert not nameless, f"Name them for what they do: {nameless}"


def test_packages_have_empty_init_files_but_the_root() -> None:
    full = [
        shown(path)
        for path in python_files("src", "examples")
        if path.name == "__init__.py"
        and path.read_text().strip()
        and path.parent != ROOT / "src" / "tenfold"
    ]
    assert not full, f"An __init__.py is empty; put it into a file with a name: {full}"


def test_every_file_of_the_platform_says_what_it_is_and_what_it_offers() -> None:
    mute = []
    for path in python_files("src"):
        text = path.read_text()
        if path.name == "__init__.py" and not text.strip():
            continue
        tree = ast.parse(text)
        if ast.get_docstring(tree) is None or "__all__" not in text:
            mute.append(shown(path))
    assert not mute, f"Give them a docstring and __all__: {mute}"


def test_public_names_are_those_that_were_reviewed() -> None:
    names = "".join(f"{name}\n" for name in sorted(tenfold.__all__))
    assert names == GOLDEN.read_text(), (
        "The public names changed. If that is meant, write them into "
        f"{shown(GOLDEN)} and a line into CHANGELOG.md."
    )


@pytest.mark.parametrize("path", golden.FILES, ids=lambda path: path.stem)
def test_what_a_reviewer_reads_is_up_to_date(path: Path) -> None:
    assert golden.FILES[path]() == path.read_text(encoding="utf-8"), (
        f"{shown(path)} is not what the code says. If the change is meant: make pages"
    )


@pytest.mark.parametrize("name", sorted(tenfold.__all__))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(tenfold, name)
    documented = getattr(value, "__doc__", None) or name in {"Currency", "Instant"}
    assert documented, f"tenfold.{name} has no docstring"


def test_error_codes_are_unique_and_well_formed() -> None:
    errors = all_errors()
    codes = Counter(kind.code for kind in errors)
    twice = {code: n for code, n in codes.items() if n > 1}
    assert not twice, f"Each class has a code of its own: {twice}"
    odd = [c for c in codes if not re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", c)]
    assert not odd


def test_every_error_says_when_it_is_raised() -> None:
    mute = [kind.__name__ for kind in all_errors() if not kind.__dict__.get("__doc__")]
    assert not mute


def said_in(path: Path) -> set[str]:
    """The names that a file's code uses, and the codes in its texts; not its imports and docs."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    said: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            said.add(node.id)
        elif isinstance(node, ast.Attribute):
            said.add(node.attr)
        elif isinstance(node, ast.Constant) and id(node) not in docs:
            said.update(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", str(node.value)))
    return said


def test_every_error_is_expected_by_some_test() -> None:
    said: set[str] = set()
    for path in python_files("tests", "examples", "src/tenfold/testing"):
        if path != Path(__file__) and (path.name.startswith("test_") or "testing" in path.parts):
            said |= said_in(path)
    roots = {kind for kind in all_errors() if kind.__subclasses__()}
    missing = [
        f"{kind.code} ({kind.__name__})"
        for kind in all_errors()
        if kind not in roots and kind.__name__ not in said and kind.code not in said
    ]
    assert not missing, f"No test expects these errors: {missing}"


def imported_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_a_contract_loads_no_implementation() -> None:
    loaded = imported_by("import tenfold; tenfold.Contract; tenfold.Money; tenfold.command")
    heavy = {"sqlalchemy", "sqlite3", "uvicorn", "starlette", "alembic", "asyncio", "rich", "typer"}
    assert not heavy & loaded


def test_the_command_line_asks_for_the_version_without_loading_anything() -> None:
    loaded = imported_by(
        "from tenfold.cli.entry import main\n"
        "import io, contextlib\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['--version'])"
    )
    assert not {"typer", "rich", "asyncio", "msgspec", "sqlalchemy"} & loaded


def test_a_server_carries_nothing_that_only_commands_need() -> None:
    loaded = imported_by("import tenfold.cli.run, tenfold.runtimes.server")
    assert not {"typer", "alembic", "prometheus_client", "jinja2"} & loaded
