"""The store's own command line: `store import`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["main"]

FAILED, MISUSED = 1, 2
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The store's own commands. `tenfold` has those of every product.",
)


@app.callback()
def _root() -> None:
    # Without a callback, Typer would drop the name of an only command.
    pass


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV file, plain or gzip.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="The data directory; also TENFOLD_DATA.")
    ] = None,
    topology: Annotated[
        str | None, typer.Option(help="The topology; also TENFOLD_TOPOLOGY.")
    ] = None,
    refused: Annotated[
        Path | None,
        typer.Option(help="Where refused lines go; FILE.refused.csv beside the file if not said."),
    ] = None,
) -> None:
    """Import order history. Can be interrupted and run again: nothing is done twice.

    It works whether or not the store is running. Exit code 0: all is done; 1:
    something is left over, and is named; 2: the file or the command is wrong;
    130: interrupted.
    """
    from store.importing.command import Order, run_import
    from store.importing.lines import NotSuchAFileError
    from tenfold import TenfoldError
    from tenfold.runtimes.topology import Product, load_product

    def product() -> Product:
        # The topology file stands beside the package; an installed copy finds it from where
        # one stands, as `tenfold` does.
        home = Path(__file__).resolve().parent.parent
        start = home if (home / "tenfold.toml").is_file() else None
        return load_product(start, topology, overrides={"data": str(data)} if data else None)

    try:
        code = run_import(product, Order(file=file, as_json=as_json, refused=refused))
    except NotSuchAFileError as error:
        _complain(f"{file}: {error} Nothing was imported.")
        code = MISUSED
    except TenfoldError as error:
        _complain(str(error))
        code = MISUSED if error.code == "user.mistake" else FAILED
    except OSError as error:
        _complain(
            f"{error.filename or file}: {error.strerror or error}. See what was done by "
            "running the command again: nothing is done twice."
        )
        code = FAILED
    except KeyboardInterrupt:
        _complain("Interrupted before anything was imported.")
        code = 130
    raise typer.Exit(code)


def _complain(text: str) -> None:
    print(f"store: {text}", file=sys.stderr)


def main() -> None:
    """Run the command line."""
    app()
