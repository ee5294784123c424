"""A module's statements, written for PostgreSQL. See `tenfold.tables.planning`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenfold.adapters.postgres.constraints import constraint_of
from tenfold.adapters.postgres.dialect import StatementDialect
from tenfold.adapters.postgres.plan import Plan, Shape
from tenfold.tables.planning import StatementPlanner
from tenfold.tables.scoping import Scope

__all__ = ["Plan", "Planner", "constraint_of"]


class Planner(StatementPlanner[Plan]):
    """Plans the statements of one module.

    Args:
        module: its name, for errors.
        scoped: whether its tables belong to tenants.
        projections: name of a table to the projection that it belongs to.
        schema: where its tables are; written before each of them.
    """

    database = "PostgreSQL"

    def __init__(
        self, *, module: str, scoped: bool, projections: Mapping[str, str], schema: str
    ) -> None:
        scope = Scope(module=module, scoped=scoped, projections=dict(projections))
        super().__init__(scope, StatementDialect(scope, schema))

    def _shape(self, compiled: Any) -> Shape:
        return Shape(compiled, self._scope, self._dialect)

    def _plan(self, shape: Shape, literals: dict[str, Any]) -> Plan:
        return Plan(shape, literals)
