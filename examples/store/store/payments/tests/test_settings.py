"""What a topology may say of the payments is checked when it is read, with the place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from store.payments.module import LedgerPlaceError, provider_of
from store.payments.settings import PaymentsSettings, TestProviderSettings
from tenfold import TenfoldError
from tenfold.runtimes.topology import load_product

HOME = Path(__file__).parents[3]


def told(tmp_path: Path, settings: str) -> str:
    """What is said about a topology file with these settings of the payments."""
    modules, _, _ = (HOME / "tenfold.toml").read_text().partition("[topologies.")
    (tmp_path / "tenfold.toml").write_text(f"{modules}[topologies.prototype]\n{settings}\n")
    with pytest.raises(TenfoldError) as refused:
        load_product(tmp_path)
    assert refused.value.code == "user.mistake"
    assert re.search(r"tenfold\.toml, line \d+: ", str(refused.value))
    return str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "api.example.com", "ftp://x", "http://", "http://h:port", "[::"]
)
def test_a_provider_over_http_needs_an_address(tmp_path: Path, url: str) -> None:
    said = told(
        tmp_path,
        f'[topologies.prototype.settings.payments]\nprovider = "http"\nurl = "{url}"',
    )
    assert "[settings.payments]" in said
    assert "needs `url`" in said


def test_a_ledger_that_cannot_be_kept_where_it_should_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ledger = str(tmp_path / "file" / "ledger.db")
    with pytest.raises(LedgerPlaceError, match=r"settings\.payments\.test\.ledger"):
        provider_of(PaymentsSettings(test=TestProviderSettings(ledger=ledger)))


@pytest.mark.parametrize("limit", ['GBP = "lots"', 'GBP = "1.005"', 'POUNDS = "5.00"', 'GBP = ""'])
def test_a_limit_that_is_no_amount_is_told_at_the_start(tmp_path: Path, limit: str) -> None:
    said = told(
        tmp_path,
        f"[topologies.prototype.settings.payments.test]\ndecline_above = {{ {limit} }}",
    )
    assert "decline_above" in said
    assert "5000.00" in said
