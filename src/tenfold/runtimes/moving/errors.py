"""What can stop a move."""

from __future__ import annotations

from tenfold.contracts.errors import TenfoldError

__all__ = ["MoveMismatchError", "MoveRefusedError", "PauseTooLongError"]


class MoveRefusedError(TenfoldError):
    """The data cannot be moved as things are; nothing was begun, or what was copied stays."""

    code = "move.refused"


class MoveMismatchError(TenfoldError):
    """Source and target differ where no write explains it; the source goes on as it was."""

    code = "move.mismatch"


class PauseTooLongError(TenfoldError):
    """Writes would have been held for too long; they were let go, and the copy stays."""

    code = "move.pause_too_long"
