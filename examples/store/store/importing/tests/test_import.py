"""`store import` as people run it: a process of its own, on data of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from store.importing.lines import COLUMNS
from store.insights.contract import Insights
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import Orders
from tenfold.runtimes.connect import connect_product
from tenfold.runtimes.topology import load_product

STORE = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from store.cli import main; main()", "import"]
SERVER = [sys.executable, "-c", "from tenfold.cli.entry import main; main()", "run"]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 invoices of 4 lines over 3 days, and 10 cancelled lines; £1,920.00 and 1,200 pieces."""
    lines = [",".join(COLUMNS)]
    for number in range(120):
        for line in range(4):
            sku, day = f"S{(number + line) % 40}", number % 3 + 1
            price = "1.00" if line % 2 else "2.00"
            quantity = 4 - line
            lines.append(
                f"{600000 + number},{sku},Thing {sku},{quantity},12/{day}/2010 9:00,{price},"
                f"{10000 + number % 30},France"
            )
    lines += ["C1,S1,Thing S1,-1,12/1/2010 9:00,1.00,10001,France"] * 10
    path = tmp_path_factory.mktemp("history") / "history.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(file: Path, data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(file), "--data", str(data), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def state_of(data: Path) -> dict[str, Any]:
    """What the store has, and that its books agree."""
    product = load_product(STORE, overrides={"data": str(data)})
    async with connect_product(product, command="test") as connection:
        assert await connection.desk.wait_idle(30)
        days = (await connection.proxy(Insights).daily_sales()).items
        levels = await connection.proxy(Inventory).list_stocks()
        counts = await connection.proxy(Orders).count_orders()
        mails = await connection.proxy(Notifications).count_mail()
    assert all(x.free + x.reserved + x.sold == x.received and x.free >= 0 for x in levels)
    return {
        "orders": counts.confirmed,
        "open_or_rejected": counts.placed + counts.rejected,
        "mails": mails,
        "revenue": sum((day.revenue.amount for day in days), Decimal(0)),
        "days": [(day.date.isoformat(), day.orders) for day in days],
        "sold": sum(level.sold for level in levels),
    }


EXPECTED = {
    "orders": 120,
    "open_or_rejected": 0,
    "mails": 120,
    "revenue": Decimal("1920.00"),
    "days": [("2010-12-01", 40), ("2010-12-02", 40), ("2010-12-03", 40)],
    "sold": 1200,
}


@pytest.mark.anyio
async def test_a_file_is_imported_once_however_often_it_is_run(
    history: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        done = run(history, tmp_path / "data", "--json")
        assert done.returncode == 0, done.stderr
        summary = json.loads(done.stdout)
        assert summary.pop("seconds") > 0
        assert summary == {
            "lines": 490,
            "taken": 480,
            "refused": {
                "cancelled": 10,
                "no_description": 0,
                "bad_quantity": 0,
                "bad_price": 0,
                "no_customer": 0,
                "unreadable": 0,
            },
            "orders": 120,
        }
    assert await state_of(tmp_path / "data") == EXPECTED
    refused = history.with_name("history.refused.csv").read_text().splitlines()
    assert refused[1].startswith("482,cancelled,C1,S1,")
    assert len(refused) == 11


@pytest.mark.anyio
async def test_killed_on_the_way_and_run_again_it_ends_in_the_same_state(
    history: Path, tmp_path: Path
) -> None:
    moments = random.Random(7)
    for _ in range(5):
        process = subprocess.Popen(
            [*COMMAND, str(history), "--data", str(tmp_path / "data")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # Any moment will do, so that no signal of the process is waited for.
        time.sleep(moments.uniform(0.5, 1.6))
        process.kill()
        process.wait()
    done = run(history, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert "120 orders" in done.stdout
    assert await state_of(tmp_path / "data") == EXPECTED


@contextmanager
def serving(data: Path, **more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PORT": str(port), "TENFOLD_DATA": str(data), **more}
    log = data.with_name("server.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            SERVER, cwd=STORE, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(400):
                assert process.poll() is None, log.read_text()
                try:
                    urllib.request.urlopen(f"{url}/_tenfold/ready", timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield url, process
        finally:
            process.terminate()
            code = process.wait(30)
    assert code in (0, -signal.SIGKILL), log.read_text()


@pytest.mark.anyio
async def test_it_hands_its_work_to_a_store_that_is_running(history: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(data) as (url, _):
        done = run(history, data)
        assert done.returncode == 0, done.stderr
        with urllib.request.urlopen(f"{url}/v1/insights/daily-sales", timeout=10) as answer:
            days = json.load(answer)["items"]
        assert sum(Decimal(day["revenue"]["amount"]) for day in days) == EXPECTED["revenue"]
    assert await state_of(data) == EXPECTED


@pytest.mark.anyio
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_store_that_ends_meanwhile_is_told_with_how_to_go_on(
    history: Path, tmp_path: Path, end: signal.Signals
) -> None:
    data = tmp_path / "data"
    slow = {
        "TENFOLD_SETTINGS__PAYMENTS__TEST__LATE_SHARE": "1",
        "TENFOLD_SETTINGS__PAYMENTS__TEST__LATE_S": "1",
    }
    with serving(data, **slow) as (url, server):
        importing = subprocess.Popen(
            [*COMMAND, str(history), "--data", str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(400):
            with urllib.request.urlopen(f"{url}/v1/customers/10000/orders", timeout=5) as answer:
                if json.load(answer)["items"]:
                    break
            time.sleep(0.02)
        server.send_signal(end)
        _, said = importing.communicate(timeout=30)
        server.wait(30)
    assert importing.returncode == 1, said
    assert "of 120 orders are recorded, and stay so" in said
    assert "Run the same command again to go on" in said
    assert "dempotency" not in said
    assert "Traceback" not in said
    assert run(history, data).returncode == 0
    assert await state_of(data) == EXPECTED


@pytest.mark.anyio
async def test_interrupted_it_says_what_was_done_and_how_to_go_on(
    history: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, str(history), "--data", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Charges that take their time, so that it cannot have ended before the signal.
        env={**os.environ, "TENFOLD_SETTINGS__PAYMENTS__TEST__LATE_SHARE": "1"},
    )
    # The lock file is there once the store is being opened.
    for _ in range(400):
        if (tmp_path / "data" / "lock").exists():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "of 120 orders are recorded" in said
    assert "Run the same command again" in said
    assert "Traceback" not in said
    assert run(history, tmp_path / "data").returncode == 0
    assert await state_of(tmp_path / "data") == EXPECTED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be opened: No such file"),
        (b"a,b\n1,2\n", "the columns InvoiceNo, StockCode"),
        (b"\x1f\x8b\x08\x00", "cannot be read"),
    ],
)
def test_another_file_is_refused_before_anything_is_touched(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "file.csv"
    if content is not None:
        path.write_bytes(content)
    done = run(path, tmp_path / "data", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_file_itself_is_never_written_over(history: Path, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(history.read_bytes())
    (tmp_path / "soft").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    drafted = tmp_path / ".other.csv.draft"
    drafted.write_bytes(history.read_bytes())
    for file, refused in (
        (path, path),
        (path, tmp_path / "soft"),
        (path, tmp_path / "hard"),
        (tmp_path / "soft", path),
        (drafted, tmp_path / "other.csv"),
    ):
        done = run(file, tmp_path / "data", "--refused", str(refused))
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "would be written over it" in done.stderr
        assert file.read_bytes() == history.read_bytes()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("where", ["nowhere/at/all.csv", "nothing.csv", "folder"])
def test_a_file_that_cannot_be_opened_is_a_mistake(tmp_path: Path, where: str) -> None:
    (tmp_path / "folder").mkdir()
    done = run(tmp_path / where, tmp_path / "data")
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be opened" in done.stderr
    assert "Nothing was imported" in done.stderr


@pytest.mark.parametrize("where", ["nowhere/at/all.csv", "folder"])
def test_a_place_for_refused_lines_that_cannot_be_written_is_a_mistake(
    history: Path, tmp_path: Path, where: str
) -> None:
    (tmp_path / "folder").mkdir()
    done = run(history, tmp_path / "data", "--refused", str(tmp_path / where))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Name another place with --refused" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_damaged_file_gives_what_came_before_and_exit_code_one(
    history: Path, tmp_path: Path
) -> None:
    import gzip

    whole = gzip.compress(history.read_bytes(), compresslevel=0)
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    done = run(path, tmp_path / "data", "--json")
    assert done.returncode == 1
    assert "breaks off" in done.stderr
    assert 0 < json.loads(done.stdout)["orders"] < 120
