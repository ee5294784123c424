"""The test provider: told what to do, and never forgetful."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest

from store.payments.provider import Answer, Captured, Charge, Declined, ProviderSilentError
from store.payments.settings import TestProviderSettings
from store.payments.testing_provider import TestProvider, decide_behaviour
from tenfold import Money

pytestmark = pytest.mark.anyio


def charge(key: str = "k", minor: int = 500, customer_id: str = "c") -> Charge:
    amount = Money.from_minor(minor, "GBP")
    return Charge(key=key, order_id=UUID(int=1), customer_id=customer_id, amount=amount)


async def captured_by(settings: TestProviderSettings, file: Path, what: Charge) -> Sequence[Answer]:
    provider = TestProvider(settings, file)
    try:
        return await provider.capture(what)
    finally:
        await provider.close()


async def test_a_key_is_charged_once_and_answered_alike(tmp_path: Path) -> None:
    provider = TestProvider(TestProviderSettings(), tmp_path / "ledger.db")
    first = await provider.capture(charge())
    assert await provider.capture(charge()) == first
    assert await provider.find("k") == first[0]
    assert await provider.find("other") is None
    await provider.close()


async def test_it_declines_by_customer_amount_and_share(tmp_path: Path) -> None:
    settings = TestProviderSettings(decline_customers=("bad",), decline_above={"GBP": "10.00"})
    file = tmp_path / "ledger.db"
    for n, (what, reason) in enumerate(
        [
            (charge("a", customer_id="bad"), "customer_blocked"),
            (charge("b", minor=1_001), "limit_exceeded"),
        ]
    ):
        assert await captured_by(settings, file, what) == [Declined(reason=reason)], n
    assert isinstance((await captured_by(settings, file, charge("c", minor=1_000)))[0], Captured)
    everyone = TestProviderSettings(decline_share=1.0)
    declined = await captured_by(everyone, file, charge("d"))
    assert declined == [Declined(reason="insufficient_funds")]


async def test_what_was_decided_stands_when_the_settings_change(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    first = await captured_by(TestProviderSettings(), file, charge())
    assert await captured_by(TestProviderSettings(decline_share=1.0), file, charge()) == first


async def test_it_answers_twice_alike(tmp_path: Path) -> None:
    settings = TestProviderSettings(twice_share=1.0)
    first, second = await captured_by(settings, tmp_path / "ledger.db", charge())
    assert first == second


async def test_silence_leaves_it_open_whether_it_charged(tmp_path: Path) -> None:
    settings = TestProviderSettings(silent_share=1.0, silent_s=0)
    provider = TestProvider(settings, tmp_path / "ledger.db")
    found = []
    for key in "abcdefghijkl":
        loses = decide_behaviour(settings, charge(key)).loses
        with pytest.raises(ProviderSilentError):
            await provider.capture(charge(key))
        found.append(await provider.find(key))
        assert (found[-1] is None) is loses
        assert isinstance((await provider.capture(charge(key)))[0], Captured)
    assert None in found
    assert any(found)
    await provider.close()


def test_behaviour_depends_on_the_charge_alone_and_keeps_to_its_shares() -> None:
    settings = TestProviderSettings(decline_share=0.25, silent_share=0.1, late_share=0.5)
    seen = [decide_behaviour(settings, charge(f"key-{n}")) for n in range(2_000)]
    assert seen == [decide_behaviour(settings, charge(f"key-{n}")) for n in range(2_000)]
    assert 400 < sum(each.declines is not None for each in seen) < 600
    assert 140 < sum(each.silent for each in seen) < 260
    assert 900 < sum(each.late for each in seen) < 1_100


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from uuid import UUID
from store.payments.provider import Charge
from store.payments.settings import TestProviderSettings
from store.payments.testing_provider import TestProvider
from tenfold import Money

async def main() -> None:
    provider = TestProvider(TestProviderSettings(), Path(sys.argv[1]))
    amount = Money.from_minor(500, "GBP")
    async def one(key: str) -> None:
        answer = await provider.capture(
            Charge(key=key, order_id=UUID(int=1), customer_id="c", amount=amount))
        print(key, answer[0].reference, flush=True)
        if key == "20":
            os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.gather(*(one(str(n)) for n in range(40)))

asyncio.run(main())
"""


async def test_what_it_said_before_a_kill_it_says_again(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    child = subprocess.run(
        [sys.executable, "-c", _KILLED, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    told = dict(line.split() for line in child.stdout.splitlines())
    assert "20" in told
    provider = TestProvider(TestProviderSettings(), file)
    for key, reference in told.items():
        assert await provider.find(key) == Captured(reference=reference)
    await provider.close()
