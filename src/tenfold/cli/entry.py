"""The command `tenfold`: what is asked for is imported, and nothing else.

Exit codes: 0 done, 1 failed, 2 a mistake in what was typed or set up, 3 the
product cannot be reached at the moment, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from enum import IntEnum

from tenfold.contracts.errors import TenfoldError

__all__ = ["Exit", "main", "report"]


class Exit(IntEnum):
    """Exit codes, for whoever calls the command from a program."""

    OK = 0
    FAILED = 1
    MISTAKE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130


_MISTAKES = frozenset(
    (
        "call.invalid_arguments",
        "contract.invalid",
        "data.in_use",
        "run.port_in_use",
        "user.mistake",
    )
)
_UNAVAILABLE = frozenset(
    (
        "admit.overloaded",
        "call.lost",
        "call.protocol",
        "call.unavailable",
        "run.not_supervised",
    )
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    if given in (["--version"], ["-V"]):
        from tenfold import __version__

        print(f"tenfold {__version__}")
        return Exit.OK
    return report(lambda: _dispatch(given), debug=debug)


def _dispatch(given: list[str]) -> int:
    if given[:1] == ["run"]:
        # The server lives as long as the product: it is kept free of what only commands need.
        from tenfold.cli.run import run

        return run(given[1:])
    from tenfold.cli.app import run_app

    return run_app(given)


def report(command: Callable[[], int], *, debug: bool = False) -> int:
    """Run a command and turn what it raises into a message and an exit code.

    A product's own command line may use it too. Mistakes and expected failures
    are told in a sentence, with their cause's traceback only if `debug`; what
    nobody foresaw keeps its traceback, since that is all there is to go by.
    """
    try:
        return command()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does.
        sys.stdout = None
        return Exit.OK
    except Exception as error:
        if debug:
            raise
        return _tell(error)


def _tell(error: Exception) -> int:
    from tenfold.contracts.refusals import Refusal

    if isinstance(error, Refusal):
        print(f"tenfold: {error}", file=sys.stderr)
        return Exit.FAILED
    if isinstance(error, TenfoldError):
        print(f"tenfold: {error}", file=sys.stderr)
        if error.code in _MISTAKES:
            return Exit.MISTAKE
        return Exit.UNAVAILABLE if error.code in _UNAVAILABLE else Exit.FAILED
    raise error
