"""Black Friday: five hundred buyers at once, a hundred pieces, and none of them sold twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from store.invariants import broken_invariants, read_files
from tests.faults.judge import await_settled, dead_letters, rows
from tests.faults.store_process import StoreProcess, Wire, free_port

pytestmark = pytest.mark.anyio
BUYERS, PIECES = 500, 100


class Buyer:
    """One customer on a connection of its own."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: Any) -> None:
        self._name = f"buyer-{number}"
        self._reader = reader
        self._writer = writer

    async def buy(self, product: str, prefer: bytes) -> tuple[int, Any]:
        line = {"product_id": product, "quantity": 1}
        body = msgspec.json.encode({"customer_id": self._name, "lines": [line]})
        self._writer.write(
            b"POST /v1/orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"idempotency-key: key-%s\r\n%scontent-length: %d\r\n\r\n"
            % (self._name.encode(), prefer, len(body))
            + body
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        names = dict(
            line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line
        )
        raw = await self._reader.readexactly(int(names[b"content-length"]))
        self._writer.close()
        return int(head.split(b" ", 2)[1]), msgspec.json.decode(raw)


@pytest.mark.parametrize("prefer", [b"", b"prefer: wait=30\r\n"], ids=["at once", "waiting"])
async def test_of_500_buyers_100_get_one_of_100_pieces(tmp_path: Path, prefer: bytes) -> None:
    data, port = tmp_path / "data", free_port()
    with StoreProcess(data, port) as store:
        assert store.await_ready(), store.tail()
        wire = Wire(port)
        price = {"amount": "19.99", "currency": "GBP"}
        made = wire.post("/v1/products", {"sku": "DEAL", "name": "The deal", "price": price})
        product = made.body["id"]
        assert wire.post(f"/v1/products/{product}/stock", {"quantity": PIECES}).status == 200
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(BUYERS)]
        buyers = [Buyer(n, *streams) for n, streams in enumerate(opened)]
        began_s = time.monotonic()
        async with asyncio.timeout(40):
            told = await asyncio.gather(*(buyer.buy(product, prefer) for buyer in buyers))
        answered_s = time.monotonic() - began_s
        assert Counter(status for status, _ in told) == {201: BUYERS}
        if prefer:
            ends = Counter((body["status"], body.get("reason")) for _, body in told)
            assert ends == {("confirmed", None): PIECES, ("rejected", "out_of_stock"): 400}
        assert await_settled(data) == []
        print(f"answered in {answered_s:.2f} s, settled in {time.monotonic() - began_s:.2f} s")
        ends = Counter(rows(data / "orders.db", "SELECT status, reason FROM orders"))
        assert ends == {("confirmed", None): PIECES, ("rejected", "out_of_stock"): 400}
        wire.close()  # its connection has rested meanwhile, perhaps for longer than one is kept
        stock = wire.get(f"/v1/products/{product}/stock").body
        assert stock == {"free": 0, "reserved": 0, "sold": PIECES}
        assert broken_invariants(read_files(data)) == []
        assert dead_letters(data) == []
        assert "Traceback" not in store.tail()
        wire.close()
        assert store.stop() == 0
