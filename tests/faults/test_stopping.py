"""SIGTERM under load, clients that leave, and two processes on one data directory."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random

import msgspec

from tests.faults.journal import Journal, Load
from tests.faults.judge import await_settled, complaints, rows
from tests.faults.store_process import StoreProcess, Wire, free_port, product_file

DRAIN_S = 10.0


def test_sigterm_under_load_drains_and_loses_nothing(tmp_path: Path, seed: int) -> None:
    data, port, journal = tmp_path / "data", free_port(), Journal()
    load = Load(journal, port, Random(seed), threads=12)
    for _ in range(2):
        with StoreProcess(data, port) as store:
            assert store.await_ready(), store.tail()
            load.start()
            try:
                time.sleep(0.7)  # so long it is under load
                began_s = time.monotonic()
                code = store.stop(within_s=DRAIN_S + 5)
            finally:
                load.stop()
            assert code == 0, store.tail()
            assert time.monotonic() - began_s < DRAIN_S
            assert "Traceback" not in store.tail()
    with StoreProcess(data, port) as store:
        assert store.await_ready(), store.tail()
        load.settle()
        assert await_settled(data) == []
        assert complaints(journal, port, data) == [], f"--seed {seed}"
        assert store.stop() == 0


def test_a_client_who_leaves_has_its_order_once_or_not_at_all(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    with StoreProcess(data, port) as store:
        assert store.await_ready(), store.tail()
        wire = Wire(port)
        product = wire.get("/v1/products?limit=1").body["items"][0]["id"]
        body = {"customer_id": "gone", "lines": [{"product_id": product, "quantity": 1}]}
        text = msgspec.json.encode(body)
        rng = Random(1)
        for number in range(60):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(
                    b"POST /v1/orders HTTP/1.1\r\nhost: localhost\r\n"
                    b"content-type: application/json\r\n"
                    b"idempotency-key: leaves-%d\r\ncontent-length: %d\r\n\r\n"
                    % (number, len(text))
                    + text[: None if number % 5 else 20]
                )
                time.sleep(rng.random() * 0.01)
        held = rows(data / "orders.db", "SELECT count(*) FROM orders")[0][0]
        ids = set()
        for number in range(60):
            answer = wire.post("/v1/orders", body, idempotency_key=f"leaves-{number}")
            assert answer.status == 201
            ids.add(answer.body["id"])
        assert await_settled(data) == []
        assert rows(data / "orders.db", "SELECT count(*) FROM orders") == [(60,)]
        assert len(ids) == 60
        assert held <= 48
        wire.close()
        assert store.stop() == 0


def test_a_second_process_is_refused_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with StoreProcess(data, free_port()) as first:
        assert first.await_ready(), first.tail()
        with StoreProcess(data, free_port()) as second:
            assert second.await_end(20) == 2
            assert f"held by process {first.process.pid}" in second.tail()
        assert first.process.poll() is None
        first.kill()
    with StoreProcess(data, free_port()) as third:
        assert third.await_ready(), third.tail()
        assert third.stop() == 0


def test_who_waits_for_an_outcome_at_sigterm_is_answered(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    late = product_file(tmp_path, "late_share = 1.0\nlate_s = 1.5\n")
    with StoreProcess(data, port, settings=late) as store:
        assert store.await_ready(), store.tail()
        wire = Wire(port)
        product = wire.get("/v1/products?limit=1").body["items"][0]["id"]
        body = {"customer_id": "waits", "lines": [{"product_id": product, "quantity": 1}]}
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(wire.post, "/v1/orders", body, prefer="wait=8")
            while not rows(data / "orders.db", "SELECT 1 FROM orders"):
                time.sleep(0.01)
            assert store.stop(within_s=DRAIN_S + 5) == 0
            answer = waiting.result(5)
        assert (answer.status, answer.body["status"]) == (201, "confirmed")
        wire.close()


def test_who_follows_an_order_at_sigterm_holds_up_nothing(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    unreachable = {  # so that the order stays open while nothing is in hand
        "TENFOLD_SETTINGS__PAYMENTS__PROVIDER": "http",
        "TENFOLD_SETTINGS__PAYMENTS__URL": f"http://127.0.0.1:{free_port()}",
    }
    with StoreProcess(data, port, settings=unreachable) as store, ExitStack() as followers:
        assert store.await_ready(), store.tail()
        wire = Wire(port)
        product = wire.get("/v1/products?limit=1").body["items"][0]["id"]
        body = {"customer_id": "follows", "lines": [{"product_id": product, "quantity": 1}]}
        order = wire.post("/v1/orders", body).body["id"]
        wire.close()
        for _ in range(20):
            stream = followers.enter_context(socket.create_connection(("127.0.0.1", port), 20))
            stream.sendall(
                b"GET /orders/%b/live HTTP/1.1\r\nhost: localhost\r\n\r\n" % order.encode()
            )
            assert b" 200 OK" in stream.recv(65536)
        began_s = time.monotonic()
        assert store.stop(within_s=DRAIN_S + 5) == 0
        assert time.monotonic() - began_s < DRAIN_S / 2
        assert "Traceback" not in store.log.read_text(), store.tail()
