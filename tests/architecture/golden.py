"""Writes what a reviewer reads in a diff: `python -m tests.architecture.golden`.

The graph of imports between the platform's packages, and the store's published
contracts. A test fails when either is not up to date.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from tenfold.contracts.contract import ContractSpec, OperationSpec, read_contract
from tenfold.runtimes.reflection import contract_of
from tenfold.runtimes.topology import load_product

__all__ = ["FILES", "contracts", "import_graph"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SRC = ROOT / "src" / "tenfold"


def import_graph() -> str:
    """Each package of the platform, and the packages that it imports."""
    found: dict[str, set[str]] = {}
    for file in SRC.rglob("*.py"):
        package = _package(file.relative_to(SRC).parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                name = node.module.split(".")
                if name[0] == "tenfold" and len(name) > 1:
                    target = _package((*name[1:], "x"))
                    found.setdefault(package, set())
                    if target != package:
                        found[package].add(target)
    return "".join(
        f"{package} -> {', '.join(sorted(targets)) or 'nothing'}\n"
        for package, targets in sorted(found.items())
    )


def contracts() -> str:
    """The store's contracts: what callers, subscribers and HTTP clients can rely on."""
    product = load_product(ROOT / "examples" / "store", "prototype")
    specs = {name: read_contract(contract_of(cls)) for name, cls in product.modules.items()}
    types = [t for spec in specs.values() for t in _types(spec)]
    schemas, components = msgspec.json.schema_components(types, ref_template="{name}")
    schema_of = {id(t): schema for t, schema in zip(types, schemas, strict=True)}
    page = {name: _contract(spec, schema_of) for name, spec in specs.items()}
    text = json.dumps({**page, "types": _rules(components)}, indent=1, ensure_ascii=False)
    return text + "\n"


FILES = {
    HERE / "import_graph.txt": import_graph,
    HERE / "store_contracts.json": contracts,
}


def _package(parts: tuple[str, ...]) -> str:
    if len(parts) == 1:
        return "tenfold"
    return ".".join(parts[:2]) if parts[0] in ("adapters", "edges") and len(parts) > 2 else parts[0]


def _types(spec: ContractSpec) -> list[Any]:
    operations = spec.operations.values()
    return [
        *(operation.arguments for operation in operations),
        *(operation.result for operation in operations),
        *spec.events.values(),
    ]


def _contract(spec: ContractSpec, schema_of: dict[int, Any]) -> dict[str, Any]:
    return {
        "contract": spec.name,
        "operations": {
            name: _operation(operation, schema_of) for name, operation in spec.operations.items()
        },
        "events": {
            name: f"v{event.schema_version}, in order of {event.order_key_field}"
            for name, event in spec.events.items()
        },
    }


def _operation(spec: OperationSpec, schema_of: dict[int, Any]) -> dict[str, Any]:
    said = spec.declaration
    return {
        "kind": spec.kind.value,
        "route": f"{said.method} {said.path}" if said.path else None,
        "who": said.who,
        "takes": schema_of[id(spec.arguments)]["$ref"],
        "returns": _rules(schema_of[id(spec.result)]),
        "refuses": [f"{refusal.__name__} {refusal.status}" for refusal in said.raises],
        "settled_by": [event.__name__ for event in said.settled_by],
    }


def _rules(schema: Any) -> Any:
    """A schema without what is only told to people."""
    if isinstance(schema, dict):
        told = {"description", "examples", "title"} if "type" in schema else set()
        return {key: _rules(value) for key, value in schema.items() if key not in told}
    return [_rules(value) for value in schema] if isinstance(schema, list) else schema


def main() -> int:
    """Write every golden file."""
    for path, make in FILES.items():
        path.write_text(make(), encoding="utf-8")
        print(f"{path} is written.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
