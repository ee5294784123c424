"""What can be wrong with a table, a migration, a statement or its parameters."""

from __future__ import annotations

from tenfold.contracts.errors import TenfoldError

__all__ = [
    "GenerationError",
    "MigrationError",
    "MigrationRefusedError",
    "ParameterError",
    "RowShapeError",
    "StatementRefusedError",
    "TableDeclarationError",
]


class StatementRefusedError(TenfoldError):
    """A statement cannot be scoped to one tenant, or is not one that Tenfold runs; nothing ran."""

    code = "tables.statement_refused"


class ParameterError(TenfoldError):
    """A statement was run with a missing, unknown or unfit parameter; nothing ran."""

    code = "tables.parameter"


class TableDeclarationError(TenfoldError):
    """A table is declared in a way that cannot work; raised at start."""

    code = "tables.declaration"


class RowShapeError(TenfoldError):
    """A row does not have what the struct asks for that it was to become."""

    code = "tables.row_shape"


class MigrationError(TenfoldError):
    """A module's migrations could not be read or applied; the one that failed left nothing."""

    code = "migrations.failed"


class MigrationRefusedError(TenfoldError):
    """A revision would fail, or break code that runs meanwhile; nothing was applied."""

    code = "migrations.refused"


class GenerationError(TenfoldError):
    """A projection's generation was begun, swapped or abandoned out of turn; nothing changed."""

    code = "projections.generation"
