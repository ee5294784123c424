"""Migrations of a whole product, by command."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tenfold.adapters.sqlite.migrate import migrate, pending
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.topology import Product

__all__ = ["migrate_product", "pending_of"]


def pending_of(product: Product) -> list[tuple[str, str]]:
    """What `migrate_product` would apply: module and revision, in order. Changes nothing.

    Raises: MigrationError (NOT_DONE).
    """
    return [
        (name, step)
        for name, cls in product.modules.items()
        if (folder := read_module(name, cls).migrations) is not None
        for step in pending(product.data_dir / f"{name}.db", name, folder)
    ]


def migrate_product(product: Product, on_step: Callable[[str, str], None]) -> list[tuple[str, str]]:
    """Bring every module's file to its newest revision. The data must be locked by the caller.

    Args:
        on_step: told each module and revision before it is applied.
    Returns: what was applied, in order.
    Raises: MigrationError (NOT_DONE) for the revision it names; those before it stay.
    """
    applied: list[tuple[str, str]] = []
    for name, cls in product.modules.items():
        folder = read_module(name, cls).migrations
        if folder is not None:
            file = product.data_dir / f"{name}.db"
            steps = migrate(file, name, folder, partial(on_step, name))
            applied += [(name, step) for step in steps]
    return applied
