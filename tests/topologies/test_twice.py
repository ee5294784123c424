"""The store under its worst payment provider, with history imported, in the topology `twice`.

What it does is right, and nothing of it is taken for unsafe to repeat.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from store.invariants import broken_invariants, read_files
from tests.faults.history import made_up_history, read_independently
from tests.faults.store_process import StoreProcess, free_port, product_file
from tests.faults.test_import import IMPORT
from tests.topologies.shop_client import Shop, eventually

_ORDERS = 60


@pytest.mark.campaign
def test_all_that_the_store_does_is_safe_to_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = product_file(tmp_path) | {"TENFOLD_TOPOLOGY": "twice"}
    file = tmp_path / "tenfold.toml"
    file.write_text(file.read_text().replace("topologies.faults.", "topologies.twice."))
    data = tmp_path / "data"
    history = made_up_history(tmp_path / "history.csv", 7)
    with StoreProcess(data, free_port(), settings=settings) as store:
        assert store.await_ready(), store.tail()
        shop = Shop(f"http://127.0.0.1:{store.port}")
        lamp = shop.product(stock=_ORDERS - 10)
        with ThreadPoolExecutor(8) as pool:
            ends = pool.map(lambda n: shop.settled_order(f"c{n}", (lamp, 1)), range(_ORDERS))
            reasons = Counter(end.get("reason") for end in ends)
        # Some are declined by chance, and what they held is sold to nobody else by then.
        assert set(reasons) <= {None, "out_of_stock", "payment_declined"}
        assert eventually(lambda: shop.stock(lamp)["sold"] == reasons[None] or None)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run(
            [*IMPORT, str(history), "--data", str(data), "--json"],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f'"orders":{read_independently(history).orders}' in done.stdout
        eventually(lambda: None if broken_invariants(read_files(data)) else True, within_s=60)
        assert store.stop() == 0, store.tail()  # it says 1 where anything is not safe
    assert broken_invariants(read_files(data)) == []
