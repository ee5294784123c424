"""A process of a supervisor that serves the `app` in a file, and has no modules and no database.

    python -m tests.faults.plain_child FILE NAME FD

What it does is the platform's own but for where the product comes from.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes import child
from tenfold.runtimes.topology import Product, Topology, read_product_file

FILE = Path(sys.argv[1])


def load(file: Path, topology: str, *, overrides: dict[str, str]) -> Product:
    source = read_product_file(file, topology, overrides=overrides)
    spec = importlib.util.spec_from_file_location("app_of_now", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ZeroDivisionError as error:
        raise UserMistakeError(f"{FILE}: it cannot be imported: {error}") from error
    app: Any = module.app
    return Product(
        name=source.name,
        root=FILE.parent,
        modules={},
        mounts={"/": lambda: app},
        seed=None,
        settings={},
        topology=Topology(http=source.topology.http),
        data_dir=source.data_dir,
        origins=source.origins,
    )


if __name__ == "__main__":
    child.load_product = load  # type: ignore[assignment]
    sys.exit(child.main(sys.argv[2:]))
