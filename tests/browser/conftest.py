"""A real store in a process of its own, and a headless Chromium to visit it with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="PLAYWRIGHT NOT INSTALLED: pip install -e '.[dev]'"
)
STORE = Path(__file__).parents[2] / "examples" / "store"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 30.0


class Shop:
    """A running store: its address, and its API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call the API; JSON in, JSON out."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def add_product(self, sku: str, name: str, price: str, stock: int) -> dict[str, Any]:
        """Put a product on sale."""
        body = {"sku": sku, "name": name, "price": {"amount": price, "currency": "GBP"}}
        product: dict[str, Any] = self.call("POST", "/v1/products", body)
        if stock:
            self.call("POST", f"/v1/products/{product['id']}/stock", {"quantity": stock})
        return product


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A store on a free port and data of its own, for all browser tests of one worker."""
    folder = tmp_path_factory.mktemp("shop")
    port = _free_port()
    environment = {**os.environ, "PORT": str(port), "TENFOLD_DATA": str(folder / "data")}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from tenfold.cli.entry import main; main()", "run"],
            cwd=STORE,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            running = Shop(f"http://127.0.0.1:{port}")
            _wait_ready(running, process, log)
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(shop: Shop, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{shop.url}/_tenfold/ready", timeout=2).close()
            return
        except (urllib.error.URLError, ConnectionError):
            # Another process's start can only be looked for.
            time.sleep(0.05)
    pytest.fail(f"The store did not start:\n{log.read_text(errors='replace')[-4000:]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as found on the PATH.

    Closed with its module: Playwright keeps an event loop running in the test's thread, beside
    which the asynchronous tests of other modules could not run.
    """
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not on the PATH, and CI must not skip the browser tests.")
        pytest.skip("CHROMIUM NOT FOUND on the PATH: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any, shop: Shop) -> Iterator[Callable[..., Any]]:
    """Opens a page for a new visitor; whatever a page complains of fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_page(path: str = "/", **options: Any) -> Any:
        context = browser.new_context(base_url=shop.url, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on(
            "console",
            # Refused pages are what some tests ask for; Chromium logs their status.
            lambda message: (
                complaints.append(f"{page.url}: {message.text}")
                if message.type == "error"
                and "the server responded with a status" not in message.text
                else None
            ),
        )
        page.goto(path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
