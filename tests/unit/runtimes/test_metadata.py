"""The tables of a module are those of the one MetaData in its `tables.py`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tenfold.contracts.errors import ContractError
from tenfold.runtimes.reflection import read_module
from tenfold.tables.columns import metadata
from tenfold.testing.probe.modules import AuditModule

ONE, OTHER = metadata(), metadata()


def read_with(monkeypatch: pytest.MonkeyPatch, **held: Any) -> Any:
    package, tables, module = (
        ModuleType(name) for name in ("metakit", "metakit.tables", "metakit.module")
    )
    package.__path__ = []
    vars(tables).update(held)
    for made in (package, tables, module):
        monkeypatch.setitem(sys.modules, made.__name__, made)
    cls = type("KitModule", AuditModule.__bases__, dict(vars(AuditModule)))
    cls.__module__ = "metakit.module"
    vars(module).update(vars(sys.modules[AuditModule.__module__]))
    delattr(cls, "metadata")
    return read_module("kit", cls)


def test_one_by_two_names_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_with(monkeypatch, METADATA=ONE, SAME=ONE).metadata is ONE


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({}, "metakit.tables holds 0 MetaData"),
        ({"A": ONE, "B": OTHER, "C": ONE}, "metakit.tables holds 2 MetaData"),
    ],
)
def test_none_and_two_are_refused(
    monkeypatch: pytest.MonkeyPatch, held: dict[str, Any], said: str
) -> None:
    with pytest.raises(ContractError, match=said) as raised:
        read_with(monkeypatch, **held)
    assert "METADATA = metadata()" in str(raised.value)
