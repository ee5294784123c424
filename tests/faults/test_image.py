"""The image that `tenfold export compose` writes is built, and runs the store: `make image`.

Without an engine: buildah builds and runs it in a chroot. Where no registry can be
reached, Debian's own Python stands in for the Dockerfile's base.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tenfold.cli.entry import main
from tests.faults.store_process import STORE, free_port

pytestmark = [pytest.mark.image, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
BASE = "docker.io/library/python:3.13-slim"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
_START_S = 120.0


class Buildah:
    """buildah with a store of images of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self._command = ["buildah", "--storage-driver", "vfs", *kept]

    def command(self, *arguments: str) -> list[str]:
        return [*self._command, *arguments]

    def __call__(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            self.command(*arguments), cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout.strip()

    def base(self) -> None:
        """Have the Dockerfile's base: its own, or a stand-in."""
        if subprocess.run(self.command("pull", "-q", BASE), check=False).returncode == 0:
            return
        root = self.folder / "debian"
        debian = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm"]
        subprocess.run([*debian, str(root)], check=True, stdout=subprocess.DEVNULL)
        # What this machine trusts, so that pip gets out where a proxy stands before it.
        shutil.copy(AUTHORITIES, root / str(AUTHORITIES)[1:])
        (root / "etc" / "pip.conf").write_text(f"[global]\ncert = {AUTHORITIES}\n")
        made = self("from", "scratch")
        self("add", "-q", made, str(root), "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", made)
        self("commit", "-q", "--rm", made, BASE)


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {program}")
    if os.geteuid() != 0:
        pytest.skip("building in a chroot needs root")
    # Not under pytest's folder, which other runs tidy while something may be mounted here.
    folder = Path(tempfile.mkdtemp(prefix="tenfold-image-"))
    try:
        yield Buildah(folder)
    finally:
        for each in ("proc", "sys"):  # what debootstrap leaves mounted where it is interrupted
            if os.path.ismount(folder / "debian" / each):
                subprocess.run(["umount", "-l", str(folder / "debian" / each)], check=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


@pytest.fixture(scope="module")
def container(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A container of the store's image, made by the Dockerfile as it is exported."""
    context = tmp_path_factory.mktemp("context") / "store"
    shutil.copytree(STORE, context, ignore=shutil.ignore_patterns(".tenfold", "__pycache__"))
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w"]
    subprocess.run([*wheel, str(context / "wheels"), str(ROOT)], check=True)
    assert main(["export", "compose", "--product", str(context), "--topology", "growth"]) == 0
    buildah.base()
    files = ["-f", "deploy/Dockerfile", "--ignorefile", "deploy/Dockerfile.dockerignore"]
    how = ["bud", "--isolation", "chroot", "--pull-never", "-t", "store"]
    buildah(*how, *files, ".", cwd=context)
    return buildah("from", "--pull-never", "localhost/store")


def inside(buildah: Buildah, container: str, *command: str) -> str:
    return buildah("run", "--isolation", "chroot", container, "--", *command)


def test_the_image_has_no_rights_and_no_tools(buildah: Buildah, container: str) -> None:
    assert inside(buildah, container, "id", "-u") == "10001"
    tried = "touch /app/x /product/x /usr/x 2>/dev/null; ls /app/x /product/x /usr/x 2>/dev/null; :"
    assert inside(buildah, container, "sh", "-c", tried) == ""
    assert inside(buildah, container, "sh", "-c", "command -v gcc pip make; :") == ""


def test_the_product_starts_in_it_and_answers_its_health_check(
    buildah: Buildah, container: str, postgres_url: str, tmp_path: Path
) -> None:
    port, log = free_port(), tmp_path / "log"
    settings = {"TENFOLD_DATABASE_URL": postgres_url, "TENFOLD_HTTP__PORT": str(port)}
    given = [f"--env={name}={value}" for name, value in settings.items()]
    run = ["tenfold", "run", "--topology", "growth", "--web", "2", "--workers", "1"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            buildah.command("run", "--isolation", "chroot", *given, container, "--", *run),
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        supervisor = await_greeting(process, log)
        look(buildah, container, supervisor, port)
        os.kill(supervisor, signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "Drained and stopped." in log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def await_greeting(process: subprocess.Popen[bytes], log: Path) -> int:
    until = time.monotonic() + _START_S
    while not (greeted := re.search(r"\(supervisor (\d+)\)", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.1)
    return int(greeted[1])


def look(buildah: Buildah, container: str, supervisor: int, port: int) -> None:
    """It runs without rights, serves, and is healthy as the Dockerfile asks for it."""
    status = Path(f"/proc/{supervisor}/status").read_text()
    assert "\nUid:\t10001\t10001\t10001\t10001\n" in status
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/_tenfold/ready", timeout=30) as reply:
        assert reply.status == 200
    (check,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", resource("Dockerfile"), re.MULTILINE)
    said = inside(buildah, container, *msgspec.json.decode(check, type=list[str]))
    states = [row["state"] for row in msgspec.json.decode(said)]
    assert states == ["ready"] * 3


def resource(name: str) -> str:
    folder = ROOT / "src" / "tenfold" / "runtimes" / "containers" / "templates"
    return (folder / name).read_text()
