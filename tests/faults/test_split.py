"""A module leaves a running store under load, and comes back, and no caller notices."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from tests.faults.growth_judge import judge_books
from tests.faults.placing import WITHIN_S, Orders, await_settled, command
from tests.faults.store_process import STORE, NoAnswerError, StoreProcess, Wire, free_port

pytestmark = [pytest.mark.campaign, pytest.mark.slow, pytest.mark.timeout(1200)]
ROUNDS = {"small": 1, "full": 3}
STEP_S = {"small": "1", "full": "5"}
_SHARE = re.compile(r"(\d+)% of .* service: ([\d,]+) there \((\d+) failed\) and ([\d,]+) here")
_LISTS = re.compile(r'async def list_products\(.*?\n        """.*?"""\n', re.DOTALL)
_FAULTY = """        import sys

        if sys.argv[1].startswith("catalog-"):
            raise RuntimeError("Something is missing on this machine.")
"""


class Visitors(Orders):
    """Look at the catalogue before they order, each time."""

    rest_s = 0.15

    def place(self, wire: Wire, body: object, key: str) -> None:
        try:
            answer = wire.get("/v1/products?limit=20")
            if answer.status != 200:
                self.failures.append(f"{answer.status} {answer.body}")
        except NoAnswerError as error:
            self.failures.append(str(error))
        super().place(wire, body, key)


@pytest.fixture
def product(tmp_path: Path) -> Path:
    """The store in a folder of its own, since its topology file is to be changed."""
    folder = tmp_path / "product"
    shutil.copytree(STORE, folder, ignore=shutil.ignore_patterns(".tenfold", "__pycache__"))
    return folder


@pytest.fixture
def settings(postgres_url: str) -> dict[str, str]:
    return {
        "TENFOLD_TOPOLOGY": "growth",
        "TENFOLD_DATABASE_URL": postgres_url,
        "TENFOLD_HTTP__KEEP_ALIVE_S": "2",
    }


@pytest.fixture
def store(tmp_path: Path, product: Path, settings: dict[str, str]) -> Iterator[StoreProcess]:
    running = StoreProcess(tmp_path / "data", free_port(), settings=settings, product=product)
    with running:
        assert running.await_ready(WITHIN_S), running.tail()
        yield running


class Split:
    """A `tenfold split` of its own, which is looked at while it runs."""

    def __init__(
        self, store: StoreProcess, settings: Mapping[str, str], product: Path, *arguments: str
    ) -> None:
        run = "import sys; from tenfold.cli.entry import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", run, "split", *arguments],
            cwd=product,
            env={
                **os.environ,
                **settings,
                "TENFOLD_DATA": str(store.data),
                "PYTHONPATH": os.pathsep.join([str(product), *(p for p in sys.path if p)]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def await_said(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"it never said {text!r}")

    def end(self) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=WITHIN_S * 2)
        return self.process.returncode, said


def processes(store: StoreProcess, settings: Mapping[str, str], product: Path) -> dict[str, int]:
    rows = msgspec.json.decode(
        command(settings, store.data, "processes", "--json", product=product)
    )
    return {row["name"]: row["pid"] for row in rows}


def assert_right(store: StoreProcess, orders: Orders, url: str) -> None:
    """Nobody noticed anything, and nothing was lost or done twice."""
    assert orders.failures == []
    assert len(set(orders.placed)) == len(orders.placed)
    await_settled(store, orders.placed)
    counts, wrong = asyncio.run(judge_books(url))
    assert wrong == []
    assert counts.confirmed + counts.rejected == len(orders.placed)


def test_payments_leave_a_store_under_load_and_come_back(
    store: StoreProcess, settings: dict[str, str], product: Path, postgres_url: str, size: str
) -> None:
    file = product / "tenfold.toml"
    before, usual = file.read_text(), {"web-1", "web-2", "worker-1"}
    walk = ("split", "payments", "--step", STEP_S[size])
    with Visitors(store.port) as orders:
        for _ in range(ROUNDS[size]):
            said = command(settings, store.data, *walk, product=product)
            assert "payments is a service of its own: payments." in said
            assert "[topologies.growth.services.payments]" in file.read_text()
            assert set(processes(store, settings, product)) == {*usual, "payments-1"}
            orders.await_placed(30)
            command(settings, store.data, "restart", product=product)
            said = command(settings, store.data, *walk, "--back", product=product)
            assert "payments is hosted by the web processes." in said
            assert file.read_text() == before
            assert set(processes(store, settings, product)) == usual
            orders.await_placed(30)
    assert_right(store, orders, postgres_url)
    assert store.stop() == 0, store.tail()
    assert "Traceback" not in store.log.read_text(), store.tail()
    print(f"\n{len(orders.placed)} orders while payments left and came back {ROUNDS[size]} times")


def test_calls_go_to_a_catalogue_of_its_own_step_by_step(
    store: StoreProcess, settings: dict[str, str], product: Path, postgres_url: str
) -> None:
    walk = ("split", "catalog", "--replicas", "2", "--step", "3")
    with Visitors(store.port) as orders:
        said = command(settings, store.data, *walk, product=product)
        orders.await_placed(30)
        back = command(settings, store.data, *walk[:2], "--back", "--step", "1", product=product)
    counted = [[int(each.replace(",", "")) for each in row] for row in _SHARE.findall(said)]
    assert [row[0] for row in counted] == [1, 5, 25, 50, 100]
    assert sum(row[2] for row in counted) == 0
    half, whole = counted[3], counted[4]
    assert half[1] > 10
    assert half[3] > 10
    assert 0.25 < half[1] / (half[1] + half[3]) < 0.75
    assert whole[1] > 10
    assert whole[3] == 0
    assert "catalog is hosted by the web processes." in back
    assert_right(store, orders, postgres_url)


def test_what_is_a_service_of_its_own_starts_as_one(
    store: StoreProcess, settings: dict[str, str], product: Path, postgres_url: str
) -> None:
    command(settings, store.data, "split", "orders", "--step", "0.1", product=product)
    assert store.stop() == 0, store.tail()
    again = StoreProcess(store.data, free_port(), settings=settings, product=product)
    with again:
        assert again.await_ready(WITHIN_S), again.tail()
        assert "orders-1" in processes(again, settings, product)
        with Visitors(again.port) as orders:
            orders.await_placed(20)
        assert_right(again, orders, postgres_url)


def test_a_service_that_is_killed_on_the_way_takes_it_back(
    store: StoreProcess, settings: dict[str, str], product: Path, postgres_url: str
) -> None:
    before = (product / "tenfold.toml").read_text()
    with Visitors(store.port) as orders:
        split = Split(store, settings, product, "catalog", "--step", "3")
        split.await_said("25% of the calls")
        os.kill(processes(store, settings, product)["catalog-1"], signal.SIGKILL)
        code, said = split.end()
        orders.await_placed(20)
    assert code == 1
    assert "catalog is hosted as it was before." in said
    assert (product / "tenfold.toml").read_text() == before
    assert set(processes(store, settings, product)) == {"web-1", "web-2", "worker-1"}
    assert_right(store, orders, postgres_url)


def test_a_service_that_fails_is_noticed_by_nobody_and_taken_back(
    store: StoreProcess, settings: dict[str, str], product: Path, postgres_url: str
) -> None:
    processes(store, settings, product)  # it has begun whole, with the code as it was
    module = product / "store" / "catalog" / "module.py"
    code, count = _LISTS.subn(lambda found: found[0] + _FAULTY, module.read_text())
    assert count == 1
    module.write_text(code)
    with Visitors(store.port) as orders:
        split = Split(store, settings, product, "catalog", "--step", "3")
        ended, said = split.end()
        orders.await_placed(20)
    assert ended == 1
    assert "calls failed at the service catalog; the log says why." in said
    assert set(processes(store, settings, product)) == {"web-1", "web-2", "worker-1"}
    assert_right(store, orders, postgres_url)


def test_whoever_gives_up_has_it_taken_back(
    store: StoreProcess, settings: dict[str, str], product: Path, postgres_url: str
) -> None:
    before = (product / "tenfold.toml").read_text()
    with Visitors(store.port) as orders:
        split = Split(store, settings, product, "catalog", "--step", "2")
        split.await_said("5% of the calls")
        split.process.send_signal(signal.SIGINT)
        code, said = split.end()
        assert code == 130
        assert "Given up; it goes back" in said
        until = time.monotonic() + WITHIN_S
        while set(processes(store, settings, product)) != {"web-1", "web-2", "worker-1"}:
            assert time.monotonic() < until, store.tail()
            time.sleep(0.1)
        orders.await_placed(20)
    assert (product / "tenfold.toml").read_text() == before
    assert_right(store, orders, postgres_url)
