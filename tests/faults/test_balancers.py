"""The real nginx and HAProxy, as exported, before two supervised machines that stop and die."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tenfold.runtimes.balancers.haproxy import render_haproxy
from tenfold.runtimes.balancers.nginx import render_nginx
from tenfold.runtimes.balancers.plan import BalancerPlan, decide_balancer
from tenfold.runtimes.balancers.settings import BalancerSettings
from tenfold.runtimes.settings import HttpLimits
from tests.faults.callers import Callers
from tests.faults.store_process import free_port
from tests.faults.supervised import Supervised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
_SETTINGS = {"web": 2, "workers": 0, "balanced": 1}
_APT = {"nginx": "nginx-light", "haproxy": "haproxy"}


def program(name: str) -> str:
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        told = f"{name} is not installed: apt-get install {_APT[name]}"
        assert not os.environ.get("CI"), told
        pytest.skip(told)
    return found


def plan_of(machines: list[Supervised], port: int) -> BalancerPlan:
    servers = tuple(f"127.0.0.1:{machine.port}" for machine in machines)
    settings = BalancerSettings(
        listen=f"127.0.0.1:{port}", servers=servers, check_s=0.3, max_connections=500
    )
    return decide_balancer("plain", settings, HttpLimits(keep_alive_s=3.0))


def nginx_command(plan: BalancerPlan, folder: Path) -> list[str]:
    file = folder / "nginx.conf"
    file.write_text(render_nginx(plan, run_dir=str(folder), access_log="off"))
    command = [program("nginx"), "-c", str(file), "-e", "stderr"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    # Root's workers would else be another user's, who cannot enter the test's folder.
    return [*command, "-g", "daemon off;" + (" user root;" if os.geteuid() == 0 else "")]


def haproxy_command(plan: BalancerPlan, folder: Path) -> list[str]:
    file = folder / "haproxy.cfg"
    file.write_text(render_haproxy(plan))
    command = [program("haproxy"), "-f", str(file)]
    subprocess.run([*command, "-c"], check=True, capture_output=True)
    return [*command, "-db"]


@contextmanager
def balanced(command: list[str], port: int, log: Path) -> Iterator[int]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as reply:
                    assert reply.status == 200
                    break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


Command = Callable[[BalancerPlan, Path], list[str]]


@pytest.fixture(params=[nginx_command, haproxy_command], ids=["nginx", "haproxy"])
def balancer(request: pytest.FixtureRequest) -> Command:
    made: Command = request.param
    program(made.__name__.removesuffix("_command"))
    return made


@pytest.fixture
def machines(tmp_path: Path, balancer: Command) -> Iterator[list[Supervised]]:
    with ExitStack() as stack:
        found = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            found.append(stack.enter_context(Supervised(tmp_path / name, _SETTINGS)))
        for machine in found:
            machine.await_ready()
        yield found


def test_machines_are_stopped_and_started_in_turn_and_no_request_fails(
    tmp_path: Path, balancer: Command, machines: list[Supervised], seed: int
) -> None:
    port = free_port()
    command = balancer(plan_of(machines, port), tmp_path)
    with balanced(command, port, tmp_path / "balancer.log"):
        callers = Callers(port, raw=20, seed=seed)
        callers.start()
        try:
            for machine in machines:
                assert machine.stop() == 0, machine.said()
                callers.await_answers(50)
                machine.start()
                machine.await_ready()
                time.sleep(1.5)  # so that the balancer has seen it, before the other one goes
            assert machines[0].command("restart").returncode == 0
        finally:
            callers.stop()
    assert callers.failures == [], (tmp_path / "balancer.log").read_text()[-2000:]


def test_a_machine_that_dies_fails_no_request_that_may_be_repeated(
    tmp_path: Path, balancer: Command, machines: list[Supervised], seed: int
) -> None:
    port = free_port()
    command = balancer(plan_of(machines, port), tmp_path)
    with balanced(command, port, tmp_path / "balancer.log"):
        callers = Callers(port, raw=20, seed=seed, posts=False)
        callers.start()
        try:
            killed = machines[0]
            pids = [*killed.pids().values(), killed.process.pid]
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            callers.await_answers(200)
            killed.process.wait(30)
            killed.start()
            killed.await_ready()
            callers.await_answers(100)
        finally:
            callers.stop()
    assert callers.failures == [], (tmp_path / "balancer.log").read_text()[-2000:]


def test_what_a_balancer_tells_the_product(
    tmp_path: Path, balancer: Command, machines: list[Supervised]
) -> None:
    port = free_port()
    command = balancer(plan_of(machines, port), tmp_path)
    with balanced(command, port, tmp_path / "balancer.log"):
        url = f"http://127.0.0.1:{port}/headers"
        asked = urllib.request.Request(url, headers={"X-Forwarded-For": "6.6.6.6"})
        with urllib.request.urlopen(asked, timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        headers = dict(line.split(": ", 1) for line in lines)
        assert headers["x-forwarded-for"] == "127.0.0.1"
        assert headers["x-forwarded-proto"] == "http"
        assert headers["x-request-id"]
        assert headers["host"] == f"127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port), 30) as wire:
            wire.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n")
            assert b" 413 " in wire.recv(65536)
