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
    from tenfold.runtimes.topology import ProductFile, import_product, read_product_file

    given = {
        "http.host": chosen.host,
        "http.port": chosen.port,
        "data": chosen.data,
        "processes.web": chosen.web,
        "processes.workers": chosen.workers,
    }
    overrides = {name: value for name, value in given.items() if value is not None}

    def read() -> ProductFile:
        return read_product_file(chosen.product, chosen.topology, overrides=overrides)

    source = read()
    configure_logs(process="supervisor" if source.topology.shared else None)
    for talkative in ("alembic", "uvicorn"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    if source.topology.shared:
        from tenfold.runtimes.starting import run_processes

        return run_processes(read, overrides, say=_say)
    from tenfold.runtimes.server import serve

    return serve(import_product(source), say=_say)


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tenfold run",
        description="Start a product and serve it over HTTP. Ctrl-C and SIGTERM drain and stop; "
        "a second one stops at once. A topology on PostgreSQL runs several processes, which "
        "SIGHUP and `tenfold restart` replace one by one.",
        allow_abbrev=False,
    )
    parser.add_argument("--topology", metavar="NAME", help="TENFOLD_TOPOLOGY, else prototype")
    parser.add_argument("--host", help="TENFOLD_HOST, else the topology's, else 127.0.0.1")
    parser.add_argument("--port", help="PORT, else the topology's, else 8000; 0 takes a free one")
    parser.add_argument(
        "--data", metavar="DIR", help="TENFOLD_DATA, else .tenfold beside tenfold.toml"
    )
    parser.add_argument("--web", metavar="N", help="web processes, where there may be several")
    parser.add_argument("--workers", metavar="N", help="worker processes, likewise")
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
