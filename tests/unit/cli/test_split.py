"""`tenfold split` as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenfold.cli.app import run_app
from tenfold.runtimes import restarts
from tenfold.runtimes.restarts import NotSupervisedError
from tenfold.runtimes.splits.asked import SplitAsked

FILE = 'name = "shop"\n[modules]\npay = "shop:Pay"\n[topologies.growth]\ndata = "data"\n'


@pytest.fixture
def product(tmp_path: Path) -> list[str]:
    (tmp_path / "tenfold.toml").write_text(FILE)
    return ["--product", str(tmp_path), "--topology", "growth"]


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (["pay"], SplitAsked(module="pay")),
        (["pay", "--back"], SplitAsked(module="pay", back=True)),
        (
            [
                "pay",
                "--service",
                "cash",
                "--replicas",
                "2",
                "--workers",
                "1",
                "--step",
                "0.5",
                "--most-faults",
                "2.5",
            ],
            SplitAsked(
                module="pay", service="cash", replicas=2, workers=1, step_s=0.5, most_faults=0.025
            ),
        ),
    ],
)
def test_what_is_typed_is_what_is_asked(
    product: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: list[str],
    asked: SplitAsked,
) -> None:
    seen: list[tuple[Path, SplitAsked]] = []

    async def ask(data_dir: Path, heard: SplitAsked, tell: object) -> None:
        seen.append((data_dir, heard))
        assert callable(tell)
        tell("pay-1 is new.")

    monkeypatch.setattr(restarts, "ask_split", ask)
    assert run_app(["split", *typed, *product]) == 0
    assert seen == [(tmp_path / "data", asked)]
    assert capsys.readouterr().out == "pay-1 is new.\n"


@pytest.mark.parametrize(
    "typed",
    [
        ["--replicas", "0"],
        ["--workers", "-1"],
        ["--step", "0"],
        ["--most-faults", "101"],
    ],
)
def test_what_cannot_be_is_told_before_anything_is_asked(
    product: list[str], capsys: pytest.CaptureFixture[str], typed: list[str]
) -> None:
    assert run_app(["split", "pay", *typed, *product]) == 2
    assert f"Invalid value for '{typed[0]}'" in capsys.readouterr().err


def test_without_a_running_product_nothing_is_done(product: list[str]) -> None:
    with pytest.raises(NotSupervisedError, match="No product runs on the data"):
        run_app(["split", "pay", *product])
