"""A payment provider for prototypes and tests: an outside party that lives in this process.

It plays somebody whom a crash of the product does not touch. So what it has
decided is on the disk, in a ledger of its own, before anybody hears of it; a
`kill -9` in between leaves it able to answer the same question the same way.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import cast

from store.payments.provider import Answer, Captured, Charge, Declined, ProviderSilentError
from store.payments.settings import TestProviderSettings
from tenfold import Money, Struct

__all__ = ["Behaviour", "Ledger", "TestProvider", "decide_behaviour"]

_GROUP = 256


class Behaviour(Struct):
    """How the provider treats one charge. `loses` goes with `silent`: it never got the request."""

    declines: str | None
    silent: bool
    loses: bool
    late: bool
    twice: bool


def decide_behaviour(settings: TestProviderSettings, charge: Charge) -> Behaviour:
    """How the provider treats a charge: by its key, customer and amount, never by chance."""
    digest = hashlib.sha256(charge.key.encode()).digest()
    fifth = [int.from_bytes(digest[i * 6 : i * 6 + 6], "big") / 2**48 for i in range(5)]
    highest = settings.decline_above.get(charge.amount.currency)
    declines = None
    if charge.customer_id in settings.decline_customers:
        declines = "customer_blocked"
    elif highest is not None and charge.amount > _amount(highest, charge.amount.currency):
        declines = "limit_exceeded"
    elif fifth[0] < settings.decline_share:
        declines = "insufficient_funds"
    return Behaviour(
        declines=declines,
        silent=fifth[1] < settings.silent_share,
        loses=fifth[2] < 0.5,
        late=fifth[3] < settings.late_share,
        twice=fifth[4] < settings.twice_share,
    )


class TestProvider:
    """A `PaymentProvider` whose behaviour the topology sets; its ledger survives `kill -9`."""

    __test__ = False

    def __init__(self, settings: TestProviderSettings, ledger: Path | str) -> None:
        self._settings = settings
        self._forgets = None if ledger else TemporaryDirectory(prefix="test-provider-")
        folder = Path() if self._forgets is None else Path(self._forgets.name)
        self._ledger = Ledger(folder / (ledger or "ledger.db"))

    async def capture(self, charge: Charge) -> Sequence[Answer]:
        """Charge, or tell what became of the charge with this key, as the settings say."""
        behaviour = decide_behaviour(self._settings, charge)
        if behaviour.silent and behaviour.loses and await self._ledger.lose(charge.key):
            return await self._silence()
        answer: Answer = (
            Captured(reference="test_" + hashlib.sha256(charge.key.encode()).hexdigest()[:20])
            if behaviour.declines is None
            else Declined(reason=behaviour.declines)
        )
        # What was decided once stands, even if the settings have changed since.
        first, answer = await self._ledger.record(charge, answer)
        if behaviour.silent and not behaviour.loses and first:
            return await self._silence()
        if behaviour.late and first:
            await asyncio.sleep(self._settings.late_s)
        return [answer, answer] if behaviour.twice else [answer]

    async def find(self, key: str) -> Answer | None:
        """What became of the charge with this key; None where it never arrived."""
        return await self._ledger.find(key)

    async def close(self) -> None:
        """Close the ledger, once what was asked of it is written."""
        await self._ledger.close()
        if self._forgets is not None:
            self._forgets.cleanup()

    async def _silence(self) -> Sequence[Answer]:
        await asyncio.sleep(self._settings.silent_s)
        raise ProviderSilentError("the test provider was told to be silent")


def _amount(text: str, currency: str) -> Money:
    return Money(amount=Decimal(text), currency=currency)


class _Ask:
    """One question to the ledger's thread, and where its answer goes."""

    __slots__ = ("charge", "done", "key", "kind")

    def __init__(
        self, kind: str, key: str, charge: tuple[object, ...] | None, done: asyncio.Future[object]
    ) -> None:
        self.kind = kind
        self.key = key
        self.charge = charge
        self.done = done


_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    key TEXT PRIMARY KEY, order_id TEXT NOT NULL, customer_id TEXT NOT NULL,
    minor INTEGER NOT NULL, currency TEXT NOT NULL, captured INTEGER NOT NULL, word TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_RECORD = "INSERT OR IGNORE INTO charges VALUES (?, ?, ?, ?, ?, ?, ?)"
_FIND = "SELECT captured, word FROM charges WHERE key = ?"
_LOSE = "INSERT OR IGNORE INTO lost VALUES (?)"


class Ledger:
    """What the test provider did, in a SQLite file of its own, written before it answers.

    One thread owns the file; what waits together is committed together, synced
    to the disk, and answered after that.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._asks: SimpleQueue[_Ask | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def record(self, charge: Charge, answer: Answer) -> tuple[bool, Answer]:
        """Write down what was decided, once for each key.

        Returns: whether it was decided just now, and what stands.
        """
        captured = isinstance(answer, Captured)
        word = answer.reference if isinstance(answer, Captured) else answer.reason
        amount = charge.amount
        row = (
            charge.key,
            str(charge.order_id),
            charge.customer_id,
            amount.minor,
            amount.currency,
            int(captured),
            word,
        )
        if await self._ask("record", charge.key, row):
            return True, answer
        return False, await self.find(charge.key) or answer

    async def lose(self, key: str) -> bool:
        """Note that a request with this key got lost; False where one was lost before."""
        return bool(await self._ask("lose", key, None))

    async def find(self, key: str) -> Answer | None:
        """What was decided under this key; None where nothing was."""
        row = await self._ask("find", key, None)
        if row is None:
            return None
        captured, word = cast("tuple[int, str]", row)
        return Captured(reference=word) if captured else Declined(reason=word)

    async def close(self) -> None:
        """Write what waits, close the file, end the thread."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._asks.put(None)
            await asyncio.to_thread(thread.join)

    async def _ask(self, kind: str, key: str, charge: tuple[object, ...] | None) -> object:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="test-provider", daemon=True)
            self._thread.start()
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._asks.put(_Ask(kind, key, charge, done))
        return await done

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        open_ = True
        while open_:
            group = [self._asks.get()]
            while len(group) < _GROUP and not self._asks.empty():
                group.append(self._asks.get())
            asks = [ask for ask in group if ask is not None]
            open_ = len(asks) == len(group)
            try:
                connection = connection or _open(self._file)
                answers = _commit(connection, asks)
            except sqlite3.Error as error:
                for ask in asks:
                    _settle(ask, ProviderSilentError(f"the test provider's ledger: {error}"))
            else:
                for ask, answer in zip(asks, answers, strict=True):
                    _settle(ask, answer)
        if connection is not None:
            connection.close()


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(_SCHEMA)
    return connection


def _commit(connection: sqlite3.Connection, asks: Sequence[_Ask]) -> list[object]:
    answers: list[object] = []
    connection.execute("BEGIN IMMEDIATE")
    try:
        for ask in asks:
            if ask.kind == "record":
                answers.append(connection.execute(_RECORD, ask.charge or ()).rowcount > 0)
            elif ask.kind == "lose":
                answers.append(connection.execute(_LOSE, (ask.key,)).rowcount > 0)
            else:
                answers.append(connection.execute(_FIND, (ask.key,)).fetchone())
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return answers


def _settle(ask: _Ask, answer: object) -> None:
    def set_answer() -> None:
        if not ask.done.done():
            if isinstance(answer, Exception):
                ask.done.set_exception(answer)
            else:
                ask.done.set_result(answer)

    try:
        ask.done.get_loop().call_soon_threadsafe(set_answer)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return
