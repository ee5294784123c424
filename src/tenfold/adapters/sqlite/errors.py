"""What can go wrong with a module's file before it serves."""

from __future__ import annotations

from tenfold.contracts.errors import TenfoldError

__all__ = ["GenerationError", "MigrationError"]


class MigrationError(TenfoldError):
    """A module's migrations could not be read or applied; the one that failed left nothing."""

    code = "migrations.failed"


class GenerationError(TenfoldError):
    """A projection's generation was begun, swapped or abandoned out of turn; nothing changed."""

    code = "projections.generation"
