"""The provider over HTTP, against a real server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import pytest

from store.payments.http_provider import HttpProvider
from store.payments.provider import Captured, Charge, Declined, ProviderSilentError
from tenfold import Money

pytestmark = pytest.mark.anyio


class Desk:
    """What the server was asked, and how it is to answer."""

    def __init__(self) -> None:
        self.charges: dict[str, dict[str, Any]] = {}
        self.headers: list[dict[str, str]] = []
        self.status = 201
        self.body: bytes | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.url = ""


def _handler(desk: Desk) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            desk.headers.append(dict(self.headers))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            desk.charges.setdefault(key, body | {"id": f"ch_{len(desk.charges) + 1}"})
            desk.hold.wait(10)
            self._answer(desk.status, {"id": desk.charges[key]["id"], "reason": "no_funds"})

        def do_GET(self) -> None:
            found = desk.charges.get(self.path.rpartition("/")[2].replace("%3A", ":"))
            self._answer(404 if found is None else 200, {"id": (found or {}).get("id", "")})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode() if desk.body is None else desk.body
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the caller has gone, as one of the tests wants

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(desk))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    desk.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield desk
    desk.hold.set()
    server.shutdown()
    server.server_close()
    thread.join()


CHARGE = Charge(
    key="m1:charge",
    order_id=UUID(int=5),
    customer_id="17850",
    amount=Money.from_minor(1_275, "GBP"),
)


async def test_it_charges_with_key_token_and_minor_units(desk: Desk) -> None:
    provider = HttpProvider(desk.url, "secret", 5)
    assert await provider.capture(CHARGE) == [Captured(reference="ch_1")]
    assert desk.headers[0]["Idempotency-Key"] == "m1:charge"
    assert desk.headers[0]["Authorization"] == "Bearer secret"
    sent = desk.charges["m1:charge"]
    assert (sent["amount"], sent["currency"], sent["customer"]) == (1_275, "GBP", "17850")
    assert await provider.capture(CHARGE) == [Captured(reference="ch_1")]
    await provider.close()


async def test_402_is_a_decline(desk: Desk) -> None:
    desk.status = 402
    provider = HttpProvider(desk.url, "", 5)
    assert await provider.capture(CHARGE) == [Declined(reason="no_funds")]
    await provider.close()


async def test_it_finds_a_charge_by_key(desk: Desk) -> None:
    provider = HttpProvider(desk.url, "", 5)
    assert await provider.find("m1:charge") is None
    await provider.capture(CHARGE)
    assert await provider.find("m1:charge") == Captured(reference="ch_1")
    await provider.close()


@pytest.mark.parametrize("status", [200, 400, 404, 409, 429, 500, 503])
async def test_every_other_answer_means_that_it_may_have_charged(desk: Desk, status: int) -> None:
    desk.status = status
    if status == 200:
        desk.body = b"<html>"
    provider = HttpProvider(desk.url, "", 5)
    with pytest.raises(ProviderSilentError, match=f"status {status}"):
        await provider.capture(CHARGE)
    await provider.close()


async def test_a_provider_that_does_not_answer_is_given_up(desk: Desk) -> None:
    desk.hold.clear()
    provider = HttpProvider(desk.url, "", 0.1)
    with pytest.raises(ProviderSilentError):
        await provider.capture(CHARGE)
    desk.hold.set()
    assert await HttpProvider(desk.url, "", 5).find("m1:charge") == Captured(reference="ch_1")
    await provider.close()


async def test_nobody_there_is_silence(desk: Desk) -> None:
    provider = HttpProvider("http://127.0.0.1:9/v1", "", 1)
    with pytest.raises(ProviderSilentError):
        await provider.capture(CHARGE)
    await provider.close()


@pytest.mark.parametrize("url", ["", "api.example.com", "ftp://x"])
def test_what_is_no_address_is_refused_with_the_setting_to_mend(url: str) -> None:
    with pytest.raises(ValueError, match=r"settings\.payments"):
        HttpProvider(url, "", 5)
