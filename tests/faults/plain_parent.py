"""A supervisor of `plain_child`ren: python -m tests.faults.plain_parent TOPOLOGY_FILE APP."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tenfold.cli.entry import report
from tenfold.observe.logs import configure_logs
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.supervisor import Supervision, supervise
from tenfold.runtimes.topology import ProductFile, read_product_file


def run() -> int:
    def read() -> ProductFile:
        return read_product_file(Path(sys.argv[1]), "growth")

    configure_logs(process="supervisor")
    source = read()
    lock = DataLock.acquire(source.data_dir, "tenfold run")
    try:
        supervision = Supervision(
            read=read,
            overrides={},
            environ=os.environ,
            say=lambda text: print(text, flush=True),
            command=(sys.executable, "-m", "tests.faults.plain_child", sys.argv[2]),
        )
        return supervise(source, supervision, lock)
    finally:
        lock.release()


if __name__ == "__main__":
    sys.exit(report(run))
