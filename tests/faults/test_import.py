"""Order history is imported whole, once, and to the penny: at rest, killed, and while serving.

`--size full` takes the real data set (`make campaign-import`), `small` a made-up file.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from store.insights.contract import Insights
from store.invariants import broken_invariants, read_files, read_modules
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import Orders
from store.payments.contract import Payments
from tenfold.runtimes.connect import connect_product
from tenfold.runtimes.topology import load_product
from tests.faults.history import Expected, made_up_history, read_independently, real_history
from tests.faults.store_process import STORE, StoreProcess, Wire, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]
IMPORT = [sys.executable, "-c", "from store.cli import main; main()", "import"]
KILLS = 5


@pytest.fixture(scope="module")
def history(size: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if size == "full":
        return real_history()
    return made_up_history(tmp_path_factory.mktemp("history") / "history.csv", 7)


@pytest.fixture(scope="module")
def expected(history: Path) -> Expected:
    return read_independently(history)


def command(history: Path, data: Path) -> list[str]:
    refused = data.with_name(f"{data.name}.refused.csv")
    return [*IMPORT, str(history), "--data", str(data), "--json", "--refused", str(refused)]


def run_to_its_end(history: Path, data: Path, expected: Expected) -> dict[str, Any]:
    done = subprocess.run(
        command(history, data), capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["lines"], summary["taken"]) == (expected.lines, expected.taken)
    assert {reason: n for reason, n in summary["refused"].items() if n} == expected.refused
    assert summary["orders"] == expected.orders
    return summary


def told(summary: dict[str, Any]) -> str:
    orders_per_s = summary["orders"] / summary["seconds"]
    lines_per_s = summary["taken"] / summary["seconds"]
    return (
        f"{summary['orders']} orders of {summary['taken']} lines in {summary['seconds']:.2f} s: "
        f"{orders_per_s:.0f} orders, {lines_per_s:.0f} lines a second, until all was settled"
    )


async def check(data: Path, expected: Expected) -> None:
    """The state that the file means, day by day, and the invariants by two ways of looking."""
    product = load_product(STORE, overrides={"data": str(data)})
    async with connect_product(product, command="test") as connection:
        assert await connection.desk.wait_idle(60)
        sales = (await connection.proxy(Insights).daily_sales()).items
        books = await read_modules(
            connection.proxy(Inventory),
            connection.proxy(Orders),
            connection.proxy(Payments),
            connection.proxy(Notifications),
        )
    assert {day.revenue.currency for day in sales} == {"GBP"}
    assert {day.date: (day.orders, day.revenue.amount) for day in sales} == expected.days
    assert (books.counts.confirmed, books.counts.placed, books.counts.rejected) == (
        expected.orders,
        0,
        0,
    )
    assert sum(level.sold for level in books.levels) == expected.pieces
    assert broken_invariants(books) == []
    assert broken_invariants(read_files(data)) == []


def test_the_real_history_is_the_one_that_is_known(size: str, expected: Expected) -> None:
    if size != "full":
        pytest.skip("the real data set is read with --size full")
    assert (expected.lines, expected.taken, expected.orders) == (50_062, 31_296, 1_621)
    assert expected.revenue == Decimal("686245.54")


async def test_the_history_is_imported_whole_and_adds_up(
    history: Path, expected: Expected, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    summary = run_to_its_end(history, tmp_path / "data", expected)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    await check(tmp_path / "data", expected)
    again = run_to_its_end(history, tmp_path / "data", expected)
    await check(tmp_path / "data", expected)
    with capsys.disabled():
        print(
            f"\n  imported: {told(summary)}, on {cpu_s:.2f} s of CPU; again, with nothing to do: "
            f"{again['seconds']:.2f} s"
        )


async def test_killed_at_random_and_run_again_it_ends_in_the_same_state(
    history: Path, expected: Expected, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed)
    # About half a second goes before the first order; the kills fall from then on.
    longest_s = 0.3 + expected.orders / 1500
    moments: list[float] = []
    for _ in range(KILLS):
        moments.append(chance.uniform(0.4, 0.6 + longest_s))
        killed_after(command(history, tmp_path / "data"), moments[-1])
    run_to_its_end(history, tmp_path / "data", expected)
    await check(tmp_path / "data", expected)
    with capsys.disabled():
        shown = ", ".join(f"{moment:.2f}" for moment in moments)
        print(f"\n  killed {KILLS} times (--seed {seed}), after {shown} s, and run again")


async def test_a_running_store_takes_it_whoever_is_killed(
    history: Path, expected: Expected, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, chance = tmp_path / "data", random.Random(seed)
    longest_s = 0.3 + expected.orders / 1500
    with serving(data) as store:
        killed_after(command(history, data), chance.uniform(0.4, 0.6 + longest_s))
        importer = subprocess.Popen(
            command(history, data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.4, 0.6 + longest_s))
        store.kill()
        # It may have been done before the store was killed; if not, it says so.
        assert importer.wait(60) in (0, 1)
    with serving(data) as store:
        summary = run_to_its_end(history, data, expected)
        wire = Wire(store.port)
        days = wire.get("/v1/insights/daily-sales").body["items"]
        wire.close()
        assert sum(Decimal(day["revenue"]["amount"]) for day in days) == expected.revenue
        assert store.stop() == 0, store.tail()
    await check(data, expected)
    with capsys.disabled():
        print(
            f"\n  into a running store, of what two kills (--seed {seed}) had left: "
            f"{summary['seconds']:.2f} s"
        )


def killed_after(arguments: list[str], seconds: float) -> None:
    """Begin a process and kill it. Any moment will do, so no signal of it is waited for."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.kill()
    process.wait()


@contextmanager
def serving(data: Path) -> Iterator[StoreProcess]:
    with StoreProcess(data, free_port()) as store:
        assert store.await_ready(60), store.tail()
        yield store
