"""Kafka, RabbitMQ, and NATS of one's own making for tests: real processes on loopback.

Looked for in this order: the URL in TENFOLD_TEST_KAFKA_URL or TENFOLD_TEST_RABBITMQ_URL (a
server that tests may fill, but not stop), the PATH, and for Kafka what `make kafka` has put into
the cache. Where none is found the tests are skipped with a line that says how to get one; with
CI=true they fail.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tenfold.runtimes.local_servers.errors import log_tail
from tenfold.runtimes.local_servers.probes import free_port
from tenfold.runtimes.local_servers.programs import find_nats
from tests.servers import missing

__all__ = ["BrokerServer", "Tls", "kafka_server", "nats_node", "rabbitmq_server"]

_START_S = 90.0
_KAFKA = (
    "Set TENFOLD_TEST_KAFKA_URL, or put Kafka's `bin` on the PATH, or run `make kafka` (with "
    "Maven). It runs on Java 17 or newer."
)
_RABBITMQ = "Set TENFOLD_TEST_RABBITMQ_URL, or `apt-get install rabbitmq-server`."

_KAFKA_CONF = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
num.network.threads=2
num.io.threads=2
background.threads=2
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1500
initial.broker.registration.timeout.ms=60000
log.index.size.max.bytes=65536
"""
_KAFKA_SECURED = """\
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required \
username="me" password="secret" user_me="secret";
ssl.keystore.type=PEM
ssl.keystore.location={tls}/server.pem
ssl.truststore.type=PEM
ssl.truststore.location={tls}/authority.pem
"""
_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_LOG4J = """\
<Configuration status="OFF"><Appenders><Console name="out"><PatternLayout pattern="%d %p %m%n"/>
</Console></Appenders><Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""

_RABBITMQ_CONF = """\
listeners.tcp.1 = 127.0.0.1:{port}
max_message_size = 4194304
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
"""


_RABBITMQ_SECURED = """\
ssl_options.cacertfile = {folder}/authority.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.pem
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
"""


class Tls:
    """A folder with `authority.pem`, and `server.pem` with a server's key and certificate."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        made = authority.issue_cert("localhost", "127.0.0.1")
        key = load_pem_private_key(made.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        chain = b"".join(each.bytes() for each in made.cert_chain_pems)
        (folder / "server.pem").write_bytes(key + chain)


class BrokerServer:
    """One server, in a folder of its own, that a test may kill and start again.

    One that is not `own` belongs to others: it runs already, and is left running.
    """

    own = True

    def __init__(self, url: str, command: list[str], port: int, folder: Path, **how: Any) -> None:
        self.url = url
        self._command, self._port, self._how = command, port, how
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def of_others(cls, variable: str) -> BrokerServer | None:
        """The one whose URL an environment variable has."""
        url = os.environ.get(variable)
        if not url:
            return None
        made = cls(url, [], 0, Path())
        made.own = False
        return made

    def start(self) -> None:
        """Start it on its data; returns when it listens."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Begin to start it. It ends with the thread that does this, so let it be the main one."""
        if not self.own:
            pytest.skip(f"{self.url} belongs to others: it cannot be started and killed here")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._how,
            )

    def wait(self) -> None:
        """Wait until it listens."""
        assert self._process is not None
        until = time.monotonic() + _START_S
        while not _listens(self._port):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError(f"{self._command[0]} did not start:\n{log_tail(self._log)}")
            time.sleep(0.05)

    def kill(self) -> None:
        """`kill -9`, as a crash; returns when the process is gone."""
        if not self.own:
            pytest.skip(f"{self.url} belongs to others: it cannot be started and killed here")
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop it as an operator would."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self.kill()


def _listens(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1.0)):
        return True
    return False


@contextmanager
def _folder(account: dict[str, int]) -> Iterator[Path]:
    """A folder that goes with the block, of whoever is to run a server in it."""
    folder = Path(tempfile.mkdtemp(prefix="tenfold-broker-"))
    try:
        if account:
            os.chown(folder, account["user"], account["group"])
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# --- NATS ----------------------------------------------------------------------------------------


def nats_node(folder: Path, port: int, conf: str) -> BrokerServer:
    """A NATS as a configuration says, not started. A plain one is the fixture `own_nats`."""
    program = find_nats(os.environ, ("path", "wheel"))
    if program is None:
        missing("NATS", "It comes as a wheel with `make test`, or put `nats-server` on the PATH.")
    folder.mkdir(exist_ok=True)
    file = folder / "nats.conf"
    file.write_text(conf)
    return BrokerServer(
        f"nats://127.0.0.1:{port}", [str(program.path), "-c", str(file)], port, folder
    )


# --- Kafka ---------------------------------------------------------------------------------------


def _kafka_jars() -> Path | None:
    on_path = shutil.which("kafka-server-start.sh") or shutil.which("kafka-server-start")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tenfold" / "kafka"
    places = [Path(on_path).resolve().parents[1] / "libs"] if on_path else []
    return next((each for each in (*places, cache) if list(each.glob("kafka_2*.jar"))), None)


@contextmanager
def kafka_server(tls: Tls | None = None) -> Iterator[BrokerServer]:
    """A Kafka of one node, without ZooKeeper; with `tls` over TLS, for a user with a password."""
    others = BrokerServer.of_others("TENFOLD_TEST_KAFKA_URL")
    if others is not None and tls is None:
        yield others
        return
    jars = _kafka_jars()
    if jars is None or shutil.which("java") is None:
        missing("Kafka", _KAFKA)
    with _folder({}) as folder:
        port, controller = free_port(), free_port()
        conf = folder / "server.properties"
        text = _KAFKA_CONF.format(port=port, controller=controller, folder=folder)
        if tls is not None:  # of a setting that is said twice the last counts
            text += _KAFKA_SECURED.format(port=port, controller=controller, tls=tls.folder)
        conf.write_text(text)
        (folder / "log4j2.xml").write_text(_LOG4J)
        java = [
            "java",
            *_JVM,
            f"-Dlog4j2.configurationFile={folder}/log4j2.xml",
            "-cp",
            f"{jars}/*",
        ]
        identity = secrets.token_urlsafe(16)
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", identity, "-c", str(conf)],
            check=True,
            capture_output=True,
            timeout=_START_S,
        )
        url = f"kafka://127.0.0.1:{port}"
        if tls is not None:
            url = (
                f"kafka://me:secret@127.0.0.1:{port}?security.protocol=SASL_SSL"
                f"&ssl.ca.location={tls.folder}/authority.pem"
            )
        server = BrokerServer(url, [*java, "kafka.Kafka", str(conf)], port, folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()  # its data goes with it


# --- RabbitMQ ------------------------------------------------------------------------------------


def _rabbitmq_program() -> str | None:
    # What Debian puts on the PATH insists on its own folders.
    usual = "/usr/lib/rabbitmq/bin/rabbitmq-server"
    return usual if os.access(usual, os.X_OK) else shutil.which("rabbitmq-server")


def _unprivileged() -> dict[str, int]:
    if os.geteuid() != 0:
        return {}
    for name in ("rabbitmq", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid}
    return {}


def _rabbitmq_environ(folder: Path, port: int, names: int, distribution: int) -> dict[str, str]:
    """All of its files in a folder, and whom it asks for names."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),  # where Erlang keeps its cookie
        "LANG": "C.UTF-8",
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the server
        "RABBITMQ_NODENAME": f"tenfold{port}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
    }


@contextmanager
def rabbitmq_server(tls: Tls | None = None) -> Iterator[BrokerServer]:
    """A RabbitMQ of one node, and an Erlang name server of its own, which ends with it.

    Args:
        tls: whom it shows that it is; None without TLS.
    """
    others = BrokerServer.of_others("TENFOLD_TEST_RABBITMQ_URL")
    if others is not None and tls is None:
        yield others
        return
    program, account = _rabbitmq_program(), _unprivileged()
    epmd = next(iter(Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    epmd_program = shutil.which("epmd") or (str(epmd) if epmd else None)
    if program is None or epmd_program is None:
        missing("RabbitMQ", _RABBITMQ)
    with _folder(account) as folder, ExitStack() as after:
        port, names, distribution = free_port(), free_port(), free_port()
        conf = folder / "rabbitmq.conf"
        text = _RABBITMQ_CONF.format(port=port)
        if tls is not None:
            for name in ("authority.pem", "server.pem"):
                shown = folder / name
                shown.write_bytes((tls.folder / name).read_bytes())
                shown.chmod(0o644)
            text = text.replace("listeners.tcp.1 =", "listeners.tcp = none\nlisteners.ssl.1 =")
            text += _RABBITMQ_SECURED.format(folder=folder)
        conf.write_text(text)
        conf.chmod(0o644)
        how: dict[str, Any] = {**account, "cwd": folder}
        if account:
            how["extra_groups"] = []
        how["env"] = _rabbitmq_environ(folder, port, names, distribution)
        command = [epmd_program, "-port", str(names), "-address", "127.0.0.1"]
        naming = BrokerServer("", command, names, folder, **how)
        after.callback(naming.kill)
        naming.start()
        url = f"amqp://guest:guest@127.0.0.1:{port}/"
        if tls is not None:
            url = f"amqps://guest:guest@localhost:{port}/?cafile={tls.folder}/authority.pem"
        server = BrokerServer(url, [program], port, folder, **how)
        after.callback(server.kill)
        server.start()
        yield server
