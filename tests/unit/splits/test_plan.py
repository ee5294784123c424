"""What a split is to lead to, and when one of its steps is taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.processes import Splitting
from tenfold.runtimes.splits.asked import SplitAsked
from tenfold.runtimes.splits.plan import Hosting, Side, decide_both, decide_hosting, decide_verdict
from tenfold.runtimes.topology import ProductFile, read_product_file

HEAD = """
name = "shop"
[modules]
orders = "shop:Orders"
stock = "shop:Stock"
pay = "shop:Pay"
[topologies.prototype]
[topologies.growth.processes]
web = 2
workers = 1
"""
ONE = 'modules = ["orders", "stock"]\n[topologies.growth.services.pay]\nmodules = ["pay"]\n'
TWO = (
    'modules = ["orders"]\n[topologies.growth.services.pay]\nmodules = ["pay"]\n'
    '[topologies.growth.services.depot]\nmodules = ["stock"]\n'
)
SCALE = (
    '[topologies.scale.services.one]\nmodules = ["orders", "stock"]\n'
    '[topologies.scale.services.pay]\nmodules = ["pay"]\n'
)


def read(folder: Path, text: str = "", topology: str = "growth") -> ProductFile:
    (folder / "tenfold.toml").write_text(HEAD + text)
    return read_product_file(folder, topology, environ={})


def test_a_module_comes_out_of_the_web_processes(tmp_path: Path) -> None:
    asked = SplitAsked(module="pay", replicas=2, workers=1)
    assert decide_hosting(asked, read(tmp_path)) == Hosting(
        topology="growth",
        modules=("orders", "stock"),
        service="pay",
        hosts=("pay",),
        replicas=2,
        workers=1,
    )
    another = SplitAsked(module="stock", service="depot")
    found = decide_hosting(another, read(tmp_path, ONE))
    assert (found.modules, found.service, found.hosts) == (("orders",), "depot", ("stock",))


def test_it_goes_back_and_the_last_one_leaves_no_service(tmp_path: Path) -> None:
    asked = SplitAsked(module="pay", back=True)
    assert decide_hosting(asked, read(tmp_path, TWO)) == Hosting(
        topology="growth", modules=("orders", "pay"), service="pay"
    )
    assert decide_hosting(asked, read(tmp_path, ONE)) == Hosting(
        topology="growth", modules=(), service="pay"
    )


@pytest.mark.parametrize(
    ("asked", "text", "topology", "said"),
    [
        (SplitAsked(module="stcok"), "", "growth", "no module 'stcok'. Did you mean `stock`?"),
        (SplitAsked(module="pay"), "", "prototype", "keeps its data in SQLite"),
        (SplitAsked(module="pay"), ONE, "growth", "pay is in the service 'pay' already"),
        (SplitAsked(module="pay"), SCALE, "scale", "pay is in the service 'pay' already"),
        (SplitAsked(module="stock", service="pay"), ONE, "growth", "is a service 'pay' already"),
        (SplitAsked(module="orders"), TWO, "growth", "orders is the last module"),
        (SplitAsked(module="pay", back=True), "", "growth", "pay is in no service"),
        (SplitAsked(module="pay", back=True), SCALE, "scale", "are gateways, which host no"),
        (
            SplitAsked(module="pay", back=True),
            TWO.replace('"pay"', '"pay", "stock"').partition("[topologies.growth.services.depot")[
                0
            ],
            "growth",
            "hosts other modules too: pay, stock",
        ),
    ],
)
def test_what_cannot_be_is_told_and_nothing_done(
    tmp_path: Path, asked: SplitAsked, text: str, topology: str, said: str
) -> None:
    with pytest.raises(UserMistakeError) as caught:
        decide_hosting(asked, read(tmp_path, text, topology))
    assert said in str(caught.value)
    assert "Nothing was done." in str(caught.value)


def test_only_who_serves_people_and_their_workers_host_it_too(tmp_path: Path) -> None:
    planned = decide_both(read(tmp_path, ONE), "pay", 0.25)
    both = Splitting(service="pay", share=0.25)
    assert {each.name: each.splitting for each in planned} == {
        "web-1": both,
        "web-2": both,
        "worker-1": both,
    }


@pytest.mark.parametrize(
    ("new", "old", "over", "back"),
    [
        (Side(calls=0, faults=0), Side(calls=0, faults=0), True, False),
        (Side(calls=100, faults=1), Side(calls=100, faults=0), True, False),
        (Side(calls=100, faults=2), Side(calls=100, faults=0), True, True),
        (Side(calls=100, faults=2), Side(calls=100, faults=0), False, False),
        (Side(calls=100, faults=3), Side(calls=100, faults=0), False, True),
        (Side(calls=100, faults=10), Side(calls=100, faults=10), True, False),
        (Side(calls=100, faults=12), Side(calls=100, faults=10), True, True),
        (Side(calls=1, faults=1), Side(calls=0, faults=0), False, False),
        (Side(calls=1, faults=1), Side(calls=0, faults=0), True, True),
    ],
)
def test_faults_beyond_the_usual_take_a_step_back(
    new: Side, old: Side, over: bool, back: bool
) -> None:
    assert decide_verdict(new, old, 0.01, over=over) is back
