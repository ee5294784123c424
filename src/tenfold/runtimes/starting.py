"""The start of a product whose data several processes share: lock, servers, processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tenfold.runtimes.listening import refuse_open_doors
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.resources import resourced
from tenfold.runtimes.supervisor import Supervision, supervise
from tenfold.runtimes.topology import ProductFile

__all__ = ["run_processes"]


def run_processes(
    read: Callable[[], ProductFile],
    overrides: Mapping[str, str],
    *,
    say: Callable[[str], None] = print,
) -> int:
    """Run a product's processes on this machine until they are asked to stop.

    The servers that no URL names are found or started first, and stopped last.

    Args:
        read: reads the topology file; again at each rolling restart.
        overrides: what the command line said.
    Returns: the exit code.
    Raises: DataInUseError, PortInUseError, ProcessNotStartedError, UserMistakeError,
        and what finding the servers raises: nothing runs then.
    """
    source = read()
    refuse_open_doors(source.topology.http, source.origins)
    lock = DataLock.acquire(source.data_dir, "tenfold run")
    try:
        with _servers(source, say) as urls:
            environ = {**os.environ, **urls}
            supervision = Supervision(read=read, overrides=overrides, environ=environ, say=say)
            return supervise(source, supervision, lock)
    finally:
        lock.release()


@contextmanager
def _servers(source: ProductFile, say: Callable[[str], None]) -> Iterator[dict[str, str]]:
    """The servers of a topology; yields the variables by which processes find them."""
    with resourced(source.topology, source.data_dir) as found:
        for sentence in found.said:
            say(sentence)
        yield found.environ
