"""A real cache between clients and the product keeps what it may, and nothing else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import pytest

from tenfold.edges.http.settings import HttpSettings
from tenfold.path.kept import Shown
from tests.http.serving import serving
from tests.http.shop import PRODUCT, Caller
from tests.servers import missing

CONFIGURATION = """
{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {folder}/cache keys_zone=kept:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{product};
      proxy_cache kept;
      add_header X-Kept $upstream_cache_status always;
    }}
  }}
}}
"""
SHARED = "/v1/prices/tea"
OWN = f"/v1/products/{PRODUCT}"


class Got(NamedTuple):
    status: int
    kept: str
    headers: dict[str, str]


class Cdn:
    def __init__(self, port: int, caller: Caller) -> None:
        self.port = port
        self.caller = caller

    def get(self, path: str, **headers: str) -> Got:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(
            "GET", path, headers={n.replace("_", "-"): v for n, v in headers.items()}
        )
        response = connection.getresponse()
        response.read()
        connection.close()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Got(response.status, told.get("x-kept", ""), told)


@pytest.fixture
def cdn(tmp_path: Path) -> Iterator[Cdn]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        missing("nginx", "Install it from the system's packages.")
    caller = Caller(HttpSettings(position_cookies=True))
    caller.entry.kept = Shown(
        target="shop.price", age_s=5, left_s=55, tags=("main/shop/price:tea",)
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with serving(caller.app) as product:
        # Its workers would otherwise be somebody who may not look into root's folders.
        user = "user root;" if os.geteuid() == 0 else ""
        text = CONFIGURATION.format(user=user, folder=tmp_path, port=port, product=product)
        (tmp_path / "nginx.conf").write_text(text)
        tmp_path.chmod(0o755)
        process = subprocess.Popen([nginx, "-p", str(tmp_path), "-c", "nginx.conf"])
        try:
            _listening(port, process)
            yield Cdn(port, caller)
        finally:
            process.terminate()
            process.wait(20)


def _listening(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise AssertionError("nginx did not start")


def test_what_everyone_shares_is_kept(cdn: Cdn) -> None:
    assert cdn.get(SHARED).kept == "MISS"
    again = cdn.get(SHARED)
    assert again.kept == "HIT"
    assert again.headers["surrogate-key"] == "main/shop/price:tea"
    assert len(cdn.caller.entry.calls) == 1


def test_who_has_seen_more_reaches_the_product_and_leaves_nothing_there(cdn: Cdn) -> None:
    cdn.get(SHARED)
    for _ in range(2):
        answer = cdn.get(SHARED, tenfold_position="shop.e.7")
        assert answer.kept == "MISS"
        assert answer.headers["tenfold-position"] == "shop.e.7"
    assert "tenfold-position" not in cdn.get(SHARED).headers


def test_what_depends_on_who_asks_is_kept_for_strangers_only(cdn: Cdn) -> None:
    assert cdn.get(OWN).kept == "MISS"
    assert cdn.get(OWN).kept == "HIT"
    for _ in range(2):
        assert cdn.get(OWN, cookie="session=ada").kept == "MISS"
        assert cdn.get(OWN, authorization="Bearer ada").kept == "MISS"
    assert cdn.get(OWN).kept == "HIT"


def test_what_needs_a_permission_is_never_kept(cdn: Cdn) -> None:
    assert [cdn.get("/v1/secrets").kept for _ in range(2)] == ["MISS", "MISS"]


def test_a_refusal_is_never_kept(cdn: Cdn) -> None:
    other = OWN[:-1] + "9"
    assert [cdn.get(other).status for _ in range(2)] == [404, 404]
    assert [cdn.get(other).kept for _ in range(2)] == ["MISS", "MISS"]
