"""Writes docs/reference/names.md: `python -m tests.architecture.names_page`.

The page has what an author imports, from the source itself: declarations by the
syntax tree, since `inspect` writes them differently in each version of Python.
"""

from __future__ import annotations

import ast
import inspect
import sys
from itertools import pairwise
from pathlib import Path

import tenfold

__all__ = ["PAGE", "names_page"]

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PAGE = ROOT / "docs" / "reference" / "names.md"
TABLES = {
    "columns": ("metadata", "tenant", "money", "Uuid", "Instant", "Day", "Minor", "Exact", "Json"),
    "upsert": ("upsert", "incoming"),
    "search": ("SearchIndex", "matches"),
    "backfilling": ("Backfill",),
    "migration": ("create_search_index", "drop_search_index"),
}
_HEAD = """\
# Names for authors

<!-- Made by `python -m tests.architecture.names_page`; a test fails when it is not up to date. -->

What a product imports: the names of `tenfold`, and for `tables.py` and migrations those of
`tenfold.tables`. A product that needs another name of Tenfold's is on thin ice, but for
`tenfold.runtimes` in its own command line and tests, and `tenfold.testing`.
"""
# What is handed out by names that are published, and is not imported itself.
BESIDE = {"Database": "Reads", "job": "BoundJob"}
_DIALECTS = {"load_dialect_impl", "bind_processor", "result_processor"}
_Node = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _declaration(node: _Node) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    whole = f"{word} {node.name}({ast.unparse(node.args)}){returns}"
    if len(whole) <= 100:
        return whole
    listed = "".join(f"    {each},\n" for each in _parameters(node.args))
    return f"{word} {node.name}(\n{listed}){returns}"


def _parameters(args: ast.arguments) -> list[str]:
    """Each parameter as it is written, `/` and `*` among them."""
    plain = [*args.posonlyargs, *args.args]
    padded = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    found = [_parameter(arg, value) for arg, value in zip(plain, padded, strict=True)]
    if args.posonlyargs:
        found.insert(len(args.posonlyargs), "/")
    if args.vararg is not None or args.kwonlyargs:
        found.append("*" + (ast.unparse(args.vararg) if args.vararg is not None else ""))
    pairs = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    return found + [_parameter(arg, value) for arg, value in pairs]


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(arg)
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _nodes(path: Path) -> dict[str, _Node]:
    # Of overloads the last one is the function itself.
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name: node for node in body if isinstance(node, _Node)}


def _entry(name: str, path: Path) -> list[str]:
    node = _nodes(path).get(name)
    if node is None:
        return [f"### {name}", "", _assigned(name, path), ""]
    lines = [f"### {name}", "", "```python", _declaration(node), "```", ""]
    lines += ["```text", inspect.cleandoc(ast.get_docstring(node) or ""), "```", ""]
    if isinstance(node, ast.ClassDef):
        lines += _methods(node)
    return lines


def _methods(node: ast.ClassDef) -> list[str]:
    rows = {}
    for member in node.body:
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
            doc = ast.get_docstring(member)
            if doc is not None and member.name[0] != "_" and member.name not in _DIALECTS:
                rows[member.name] = f"| `{member.name}` | {_told(inspect.cleandoc(doc))} |"
    return ["| member | |", "|---|---|", *rows.values(), ""] if rows else []


def _told(doc: str) -> str:
    """A member's docstring for one cell: what it does, and its arguments by name."""
    what = " ".join(doc.split("\n\n", maxsplit=1)[0].split())
    _, _, section = doc.partition("\nArgs:\n")
    arguments: list[str] = []
    for line in section.split("\n\n", maxsplit=1)[0].splitlines():
        if not line.startswith("    "):
            break  # the next section
        if line.startswith("     "):
            arguments[-1] += " " + line.strip()
        else:
            name, _, meaning = line.strip().partition(": ")
            arguments.append(f"`{name}`: {meaning}")
    return "<br>".join([what, *arguments]).replace("|", "\\|")


def _assigned(name: str, path: Path) -> str:
    """The string under an assignment, which documents a type alias."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in pairwise(body):
        targets = [ast.unparse(t) for t in node.targets] if isinstance(node, ast.Assign) else []
        if name in targets and isinstance(after, ast.Expr):
            return " ".join(str(ast.literal_eval(after.value)).split())
    raise LookupError(f"{name} in {path} has neither a declaration nor a string under it.")


def _home(name: str) -> Path:
    module: str = tenfold._HOMES[name]
    return SRC / (module.replace(".", "/") + ".py")


def names_page() -> str:
    """The whole page."""
    page = [_HEAD, "## tenfold", ""]
    for name in sorted(tenfold.__all__, key=str.lower):
        page += _entry(name, _home(name))
        if name in BESIDE:
            page += _entry(BESIDE[name], _home(name))
    for module, names in TABLES.items():
        path = SRC / "tenfold" / "tables" / f"{module}.py"
        page += [f"## tenfold.tables.{module}", ""]
        for name in names:
            page += _entry(name, path)
    return "\n".join(page)


if __name__ == "__main__":
    PAGE.write_text(names_page(), encoding="utf-8")
    print(f"{PAGE} is written.", file=sys.stderr)
