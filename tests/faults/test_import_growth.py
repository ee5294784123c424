"""The same history comes to the same state on SQLite and on PostgreSQL, row by row.

`--size full` takes the real data set, `small` a made-up file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tenfold.runtimes.local_servers.start import running_servers
from tests.faults.history import Expected, made_up_history, read_independently, real_history
from tests.faults.store_process import STORE, StoreProcess, Wire, free_port
from tests.faults.test_import import run_to_its_end, told
from tests.topologies.state import LEFT_OUT, State, state_of_files, state_of_schemas

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(3000)]
FLEET = {
    "TENFOLD_TOPOLOGY": "growth",
    "TENFOLD_PROCESSES__WEB": "4",
    "TENFOLD_PROCESSES__WORKERS": "2",
}


@pytest.fixture(scope="module")
def history(size: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if size == "full":
        return real_history()
    return made_up_history(tmp_path_factory.mktemp("history") / "history.csv", 7)


@pytest.fixture(scope="module")
def expected(history: Path) -> Expected:
    return read_independently(history)


async def test_a_fleet_on_postgres_comes_to_the_prototype_s_state(
    history: Path,
    expected: Expected,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = run_to_its_end(history, tmp_path / "data", expected)
    wanted = state_of_files(tmp_path / "data")
    with TemporaryDirectory(prefix="tenfold-import-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        data, port = Path(folder) / "data", free_port()
        settings = {**FLEET, "TENFOLD_PRODUCT": str(unseeded(tmp_path))}
        with StoreProcess(data, port, settings=settings) as store:
            assert store.await_ready(120), store.tail()
            for name, value in settings.items():
                monkeypatch.setenv(name, value)
            fleet = run_to_its_end(history, data, expected)
            assert days_of(port) == {
                day: (orders, revenue) for day, (orders, revenue) in expected.days.items()
            }
            servers = running_servers(data)
            assert servers is not None
            found = await state_of_schemas(servers.database_url)
            assert store.stop(60) == 0, store.tail()
    assert differences(wanted, found) == {}
    with capsys.disabled():
        left_out = ", ".join(f"{table}.{column}" for table, column in sorted(LEFT_OUT))
        rows = sum(sum(rows.values()) for rows in found.values())
        print(
            f"\n  prototype: {told(alone)}\n  growth, 4 web and 2 workers: {told(fleet)}"
            f"\n  {rows} rows equal, by natural keys; not compared: {left_out}"
        )


def unseeded(folder: Path) -> Path:
    """The store's file without its seed, since an import alone seeds nothing."""
    lines = (STORE / "tenfold.toml").read_text().splitlines()
    file = folder / "tenfold.toml"
    file.write_text("\n".join(line for line in lines if not line.startswith("seed =")) + "\n")
    return file


def days_of(port: int) -> Mapping[Any, Any]:
    """Orders and revenue of each day, as the running store tells them."""
    wire = Wire(port)
    found = wire.get("/v1/insights/daily-sales")
    wire.close()
    assert found.status == 200, found
    return {
        date.fromisoformat(day["date"]): (day["orders"], Decimal(day["revenue"]["amount"]))
        for day in found.body["items"]
    }


def differences(wanted: State, found: State) -> dict[str, Any]:
    """What one state has and the other lacks, a few rows of each table."""
    assert set(wanted) == set(found)
    return {
        table: {
            "missing": list((rows - found[table]).elements())[:3],
            "unexpected": list((found[table] - rows).elements())[:3],
        }
        for table, rows in wanted.items()
        if rows != found[table]
    }


def test_one_row_that_differs_is_told() -> None:
    one = {"inventory.stock": Counter(['{"free":1}', '{"free":2}'])}
    other = {"inventory.stock": Counter(['{"free":1}', '{"free":1}'])}
    assert differences(one, other) == {
        "inventory.stock": {"missing": ['{"free":2}'], "unexpected": ['{"free":1}']}
    }
