"""`tenfold move`: the store's data from SQLite to PostgreSQL, with customers in it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.faults.store_process import STORE, StoreProcess, free_port
from tests.topologies.shop_client import Shop, eventually

_RUN = "import sys; from tenfold.cli.entry import main; sys.argv[0] = 'tenfold'; sys.exit(main())"
_MODULES = ("catalog", "inventory", "orders", "payments", "notifications", "insights")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The source's data: the store, seeded, and stopped again."""
    with StoreProcess(tmp_path / "data", free_port()) as process:
        assert process.await_ready(), process.tail()
        assert process.stop() == 0, process.tail()
    return tmp_path / "data"


def fill(data: Path, rows: int) -> None:
    """Orders of long ago, put into the file of a store that does not run."""
    with closing(sqlite3.connect(data / "orders.db")) as connection, connection:
        connection.executemany(
            "INSERT INTO orders VALUES ('main', ?, 'c', 'paid', NULL, 255, 'GBP', ?, NULL, ?)",
            (
                (n.to_bytes(16, "big"), 1_600_000_000_000_000 + n, '[{"quantity": 1, "x": 1.50}]')
                for n in range(rows)
            ),
        )


def mover(data: Path, url: str, *options: str) -> subprocess.Popen[str]:
    """A process that moves the store's data into a database."""
    command = [sys.executable, "-c", _RUN, "move", "--from", "prototype", "--to", "growth"]
    return subprocess.Popen(
        [*command, *options],
        cwd=STORE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(STORE), *(path for path in sys.path if path)]),
            "TENFOLD_DATA": str(data),
            "TENFOLD_DATABASE_URL": url,
            "TENFOLD_CACHE_URL": "redis://127.0.0.1:1",
        },
        stdin=subprocess.PIPE if "--wait" in options else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def moved(data: Path, url: str, *options: str) -> dict[str, Any]:
    """Move to the end; what the command reports."""
    process = mover(data, url, "--json", *options)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    report: dict[str, Any] = json.loads(said)
    return report


def refused(data: Path, url: str, *options: str) -> str:
    """A move that does not go through; what the command says."""
    process = mover(data, url, *options)
    said, _ = process.communicate(timeout=120)
    assert process.returncode != 0, said
    return said


def content(data: Path) -> dict[str, str]:
    """A digest of all that each file holds, whatever its pages look like."""
    found = {}
    for file in sorted(data.glob("*.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            dump = "\n".join(connection.iterdump())
        found[file.name] = hashlib.sha256(dump.encode()).hexdigest()
    return found


def asked(url: str, query: str, *values: Any) -> list[Any]:
    """Rows of the target."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(query, *values)]
        finally:
            await connection.close()

    answer: list[Any] = []
    thread = threading.Thread(target=lambda: answer.extend(asyncio.run(ask())))
    thread.start()
    thread.join()
    return answer


def at_source(data: Path, module: str, query: str) -> list[Any]:
    with closing(sqlite3.connect(data / f"{module}.db")) as connection:
        return connection.execute(query).fetchall()


class Customers:
    """Who order as long as they are answered; what they were promised is in `promised`."""

    def __init__(self, port: int, count: int) -> None:
        self.promised: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        shop = Shop(f"http://127.0.0.1:{port}")
        self._product = shop.product(stock=100_000)
        self._threads = [
            threading.Thread(target=self._order, args=(shop, f"c{n}")) for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _order(self, shop: Shop, customer: str) -> None:
        while not self._stop.is_set():
            try:
                answer = shop.order(customer, (self._product, 1), Idempotency_Key=uuid4().hex)
            except OSError as error:
                self.failures.append(type(error).__name__)
                return  # the store is gone
            if answer.status == 201:
                self.promised.append(answer.body["id"])
            else:
                self.failures.append(str(answer.status))
                self._stop.wait(0.05)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)


@pytest.fixture
def running(data: Path) -> Iterator[StoreProcess]:
    fill(data, 5_000)
    with StoreProcess(data, free_port()) as process:
        assert process.await_ready(), process.tail()
        yield process


def test_a_store_that_stands_still_is_moved_and_left_as_it_was(
    data: Path, postgres_url: str
) -> None:
    fill(data, 5_000)
    before = content(data)
    report = moved(data, postgres_url)
    assert content(data) == before
    assert report["pause_s"] == 0
    sums = {(each["module"], each["table"]): each for each in report["tables"]}
    assert sums["orders", "orders"]["rows"] == 5_000
    rows = asked(postgres_url, 'SELECT seq, message_id FROM "catalog".tenfold_outbox ORDER BY seq')
    assert rows
    assert rows == at_source(data, "catalog", "SELECT seq, message_id FROM tenfold_outbox")
    (epoch,) = asked(postgres_url, "SELECT value FROM catalog.tenfold_meta WHERE key = 'epoch'")
    assert [epoch] == at_source(data, "catalog", "SELECT value FROM tenfold_meta WHERE key='epoch'")
    assert asked(postgres_url, "SELECT value FROM tenfold.marks WHERE name = 'seeded'")
    assert "has been moved to" in refused(data, postgres_url)


def test_a_store_moves_while_customers_order(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    customers = Customers(running.port, 4)
    report = moved(data, postgres_url)
    customers.stop()
    running.process.wait(60)
    assert 0 < report["pause_s"] < 5
    assert report["changed"] > 0
    promised = {UUID(each) for each in customers.promised}
    there = {row[0] for row in asked(postgres_url, "SELECT id FROM orders.orders")}
    assert promised
    assert promised <= there
    for module in _MODULES:
        for table in ("tenfold_outbox", "tenfold_inbox", "tenfold_positions"):
            count = f"SELECT count(*) FROM {table}"
            kept = asked(postgres_url, f'SELECT count(*) FROM "{module}".{table}')
            assert kept == at_source(data, module, count), (module, table)
    seen = asked(postgres_url, "SELECT id, status FROM orders.orders ORDER BY id")
    source = at_source(data, "orders", "SELECT id, status FROM orders ORDER BY id")
    assert seen == [(UUID(bytes=id_), status) for id_, status in source]
    _goes_on_there(data.parent / "there", postgres_url, customers.promised)


def test_who_is_started_on_the_target_beforehand_serves_after_the_switch(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    moving = mover(data, postgres_url)
    assert moving.stdout is not None
    assert any("copied" in line for line in moving.stdout)
    moving.send_signal(signal.SIGSTOP)
    assert "Another process moves" in refused(data, postgres_url)
    with StoreProcess(data.parent / "there", free_port(), settings=there(postgres_url)) as process:
        eventually(lambda: "waiting" in process.log.read_text() or None, within_s=60)
        moving.send_signal(signal.SIGCONT)
        said, _ = moving.communicate(timeout=120)
        assert moving.returncode == 0, said
        assert process.await_ready(60), process.tail()
        products = (
            Shop(f"http://127.0.0.1:{process.port}").get("/v1/products?limit=100").body["items"]
        )
        assert len(products) == at_source(data, "catalog", "SELECT count(*) FROM products")[0][0]
        assert process.stop() == 0, process.tail()


def test_a_move_that_is_told_to_wait_follows_until_it_is_told_to_switch(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    moving = mover(data, postgres_url, "--wait")
    assert moving.stdout is not None
    assert any("Press Enter" in line for line in moving.stdout)
    with StoreProcess(data.parent / "there", free_port(), settings=there(postgres_url)) as process:
        eventually(lambda: "waiting" in process.log.read_text() or None, within_s=60)
        shop = Shop(f"http://127.0.0.1:{running.port}")
        placed = shop.order("late", (shop.product(stock=3), 1), Idempotency_Key="late").body
        copied = "SELECT count(*) FROM orders.orders WHERE id = $1"
        order = UUID(placed["id"])
        eventually(lambda: asked(postgres_url, copied, order) == [(1,)] or None, within_s=60)
        assert running.process.poll() is None
        said, _ = moving.communicate("\n", timeout=120)
        assert moving.returncode == 0, said
        assert process.await_ready(60), process.tail()
        there_ = Shop(f"http://127.0.0.1:{process.port}")
        assert there_.get(f"/v1/orders/{order}").status == 200
        assert process.stop() == 0, process.tail()


def test_a_move_whose_teller_has_gone_switches_nothing_over(data: Path, postgres_url: str) -> None:
    moving = mover(data, postgres_url, "--wait")
    assert moving.stdout is not None
    assert any("Press Enter" in line for line in moving.stdout)
    said, _ = moving.communicate(timeout=120)  # which closes its standard input
    assert moving.returncode == 1
    assert "ended before a line said to switch over" in said
    assert asked(postgres_url, "SELECT state FROM tenfold.moves") == [("copying",)]
    assert moved(data, postgres_url)["pause_s"] == 0


def test_a_move_that_nobody_could_tell_is_not_begun(data: Path) -> None:
    words = ("move", "--from", "prototype", "--to", "growth", "--wait")
    with pytest.raises(subprocess.CalledProcessError) as refusal:
        command(data, *words)
    assert "neither a terminal nor a pipe" in refusal.value.stderr


def test_nothing_starts_on_a_target_that_is_half_there(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    moved(data, postgres_url, "--rehearse")
    with StoreProcess(data.parent / "there", free_port(), settings=there(postgres_url)) as process:
        process.process.wait(60)
        assert "Run `tenfold move` to its end" in process.log.read_text()


def there(url: str) -> dict[str, str]:
    """How the store is run on the target."""
    return {
        "TENFOLD_TOPOLOGY": "growth",
        "TENFOLD_DATABASE_URL": url,
        "TENFOLD_CACHE_URL": "redis://127.0.0.1:1",
    }


def _goes_on_there(folder: Path, url: str, promised: list[str]) -> None:
    """The product on the target finishes what was under way, and takes new orders."""
    with StoreProcess(folder, free_port(), settings=there(url)) as process:
        assert process.await_ready(60), process.tail()
        shop = Shop(f"http://127.0.0.1:{process.port}")

        def settled() -> bool | None:
            left = asked(url, "SELECT count(*) FROM orders.orders WHERE status = 'placed'")
            return True if left == [(0,)] else None

        eventually(settled, within_s=60)
        product = shop.product(stock=3)
        assert shop.settled_order("new", (product, 1))["status"] == "confirmed"
        for id_ in promised[-5:]:
            assert shop.get(f"/v1/orders/{id_}").body["status"] == "confirmed"
        assert process.stop() == 0, process.tail()
    mails = asked(url, "SELECT order_id FROM notifications.mails")
    confirmed = asked(url, "SELECT id FROM orders.orders WHERE status = 'confirmed'")
    assert sorted(mails) == sorted(confirmed)


def test_a_move_that_was_killed_goes_on(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    customers = Customers(running.port, 2)
    first = mover(data, postgres_url)
    assert first.stdout is not None
    for line in first.stdout:
        if "orders.orders" in line:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    (copied,) = asked(postgres_url, "SELECT count(*) FROM orders.orders")
    assert copied[0] > 0
    assert asked(postgres_url, "SELECT state FROM tenfold.moves") == [("copying",)]
    report = moved(data, postgres_url)
    customers.stop()
    assert report["pause_s"] < 5
    there = {row[0] for row in asked(postgres_url, "SELECT id FROM orders.orders")}
    assert {UUID(each) for each in customers.promised} <= there


def test_after_a_rehearsal_the_source_goes_on(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    shop = Shop(f"http://127.0.0.1:{running.port}")
    report = moved(data, postgres_url, "--rehearse")
    assert report["rehearsal"]
    product = shop.product(stock=5)
    placed = shop.order("c", (product, 1))
    assert placed.status == 201
    again = moved(data, postgres_url)
    assert again["rows"] < 1_000
    there = asked(
        postgres_url,
        "SELECT id FROM orders.orders WHERE customer_id = 'c' AND id = $1",
        UUID(placed.body["id"]),
    )
    assert there
    triggers = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%changed%'"
    assert at_source(data, "orders", triggers) == [(0,)]


def command(data: Path, *words: str) -> str:
    """A command of `tenfold` on the source."""
    path = os.pathsep.join([str(STORE), *(path for path in sys.path if path)])
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words],
        cwd=STORE,
        env={**os.environ, "PYTHONPATH": path, "TENFOLD_DATA": str(data)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_projection_answers_from_the_same_generation(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    shop = Shop(f"http://127.0.0.1:{running.port}")
    shop.settled_order("c7", (shop.product(stock=5), 2))
    moved(data, postgres_url, "--rehearse")
    command(data, "projections", "rebuild", "orders.order_history")
    moved(data, postgres_url)
    state = "SELECT active, building FROM orders.tenfold_projections WHERE name = 'order_history'"
    assert asked(postgres_url, state) == [(2, None)]
    rows = asked(postgres_url, "SELECT customer_id, status FROM orders.order_history__2")
    assert ("c7", "confirmed") in rows
    assert rows == at_source(data, "orders", "SELECT customer_id, status FROM order_history__2")
    assert asked(postgres_url, "SELECT to_regclass('orders.order_history__1')::text") == [(None,)]


def test_a_row_that_the_target_cannot_store_is_named(data: Path, postgres_url: str) -> None:
    fill(data, 50)
    with closing(sqlite3.connect(data / "orders.db")) as connection, connection:
        connection.execute("UPDATE orders SET reason = 'a' || char(0) WHERE id = ?", (bytes(16),))
    said = refused(data, postgres_url)
    assert "A row of orders.orders cannot be stored" in said
    assert str(UUID(int=0)) in said
    with closing(sqlite3.connect(data / "orders.db")) as connection, connection:
        connection.execute("UPDATE orders SET reason = NULL")
    assert moved(data, postgres_url)["pause_s"] == 0


def test_a_target_that_is_altered_meanwhile_is_told(
    data: Path, running: StoreProcess, postgres_url: str
) -> None:
    moved(data, postgres_url, "--rehearse")
    alter = "CREATE FUNCTION orders.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    alter += "NEW.status := 'spoilt'; RETURN NEW; END $$"
    asked(postgres_url, alter)
    asked(
        postgres_url,
        "CREATE TRIGGER spoil BEFORE INSERT ON orders.orders "
        "FOR EACH ROW EXECUTE FUNCTION orders.spoil()",
    )
    shop = Shop(f"http://127.0.0.1:{running.port}")
    assert shop.order("c", (shop.product(stock=5), 1)).status == 201
    assert "did not keep a row of orders.orders" in refused(data, postgres_url)
    assert shop.order("c", (shop.product(stock=5), 1)).status == 201
