"""A pgbouncer in transaction mode between a test and its database.

Each transaction may run on another session of the server, so what a session keeps (prepared
statements, settings, advisory locks, LISTEN) is not there for the next one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from tenfold.runtimes.local_servers.account import account_for
from tenfold.runtimes.local_servers.probes import free_port, probe_postgres
from tests.servers import missing

__all__ = ["pgbouncer_url"]

_CONF = """\
[databases]
{database} = host={host} port={server_port} dbname={database} user={user}{password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
max_client_conn = 500
server_round_robin = 1
ignore_startup_parameters = extra_float_digits
logfile = {log}
"""


@pytest.fixture
def pgbouncer_url(postgres_url: str, own_servers_folder: Callable[[], Path]) -> Iterator[str]:
    """The test's fresh database through a pgbouncer of its own, in transaction mode.

    Its sessions are handed out in turn, so that two transactions of one client
    come to different ones.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing("pgbouncer", "`apt-get install pgbouncer`.")
    folder, port = own_servers_folder(), free_port()
    parts = urlsplit(postgres_url)
    password = f" password={unquote(parts.password)}" if parts.password else ""
    conf = folder / "pgbouncer.ini"
    conf.write_text(
        _CONF.format(
            database=parts.path[1:],
            host=parts.hostname,
            server_port=parts.port or 5432,
            user=parts.username,
            password=password,
            port=port,
            log=folder / "pgbouncer.log",
        )
    )
    account = account_for(folder)  # it does not run as root either
    if account is not None:
        account.give(folder)
        account.give(conf)
    guard = shutil.which("setpriv")  # so that it ends with a run that is killed
    command = [*([guard, "--pdeathsig", "KILL"] if guard else []), program, "-q", str(conf)]
    process = subprocess.Popen(
        command, stderr=subprocess.DEVNULL, **(account.popen() if account is not None else {})
    )
    try:
        end = time.monotonic() + 20
        while probe_postgres(port) == "silent":
            assert process.poll() is None, (folder / "pgbouncer.log").read_text()
            assert time.monotonic() < end, "pgbouncer did not answer"
            time.sleep(0.01)
        place = f"{parts.username}@127.0.0.1:{port}"
        yield urlunsplit(parts._replace(netloc=place))
    finally:
        process.kill()
        process.wait()
