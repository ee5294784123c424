"""`tenfold run`: start a product. Parsed by argparse, which costs a fifth of Typer's memory."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

__all__ = ["run"]


def run(arguments: list[str]) -> int:
    """Start the product of this folder until it is asked to stop; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    from tenfold.observe.logs import configure_logs
    from tenfold.runtimes.topology import load_product

    configure_logs()
    for talkative in ("alembic", "uvicorn"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    options = {"http.host": chosen.host, "http.port": chosen.port, "data": chosen.data}
    product = load_product(
        chosen.product,
        chosen.topology,
        overrides={name: value for name, value in options.items() if value is not None},
    )
    from tenfold.runtimes.server import serve

    return serve(product, say=lambda text: print(text, flush=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tenfold run",
        description="Start a product and serve it over HTTP. Ctrl-C and SIGTERM drain and stop; "
        "a second one stops at once.",
        allow_abbrev=False,
    )
    parser.add_argument("--topology", metavar="NAME", help="TENFOLD_TOPOLOGY, else prototype")
    parser.add_argument("--host", help="TENFOLD_HOST, else the topology's, else 127.0.0.1")
    parser.add_argument("--port", help="PORT, else the topology's, else 8000; 0 takes a free one")
    parser.add_argument(
        "--data", metavar="DIR", help="TENFOLD_DATA, else .tenfold beside tenfold.toml"
    )
    parser.add_argument(
        "--product",
        metavar="DIR",
        type=Path,
        help="the folder of tenfold.toml: TENFOLD_PRODUCT, else here or above",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of whatever goes wrong"
    )
    return parser
