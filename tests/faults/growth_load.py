"""Load for a fleet under faults: commands, reads and registers, and when which of them failed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from random import Random
from uuid import UUID

import msgspec

from tests.faults.journal import Journal, Load, Sent
from tests.faults.store_process import Answer, NoAnswerError, Wire

__all__ = ["GrowthLoad", "Naive", "Pulse"]

_KEYED, _NAIVE = 6, 4


class Naive(msgspec.Struct):
    """What callers without keys were told of one register, who never send anything again."""

    told: list[int]
    maybe: int = 0
    not_done: int = 0


class Pulse:
    """Answers and failures by the time at which they ended, on the monotonic clock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.answers = 0
        self.longest = (0.0, 0.0, "nothing")
        """Of all requests: seconds, when it began, and what it was."""
        self.failures: list[float] = []
        self.kinds: Counter[str] = Counter()

    def answered(self, what: str, began_s: float) -> None:
        with self.lock:
            self.answers += 1
            self.longest = max(self.longest, (time.monotonic() - began_s, began_s, what))

    def failed(self, kind: str, began_s: float) -> None:
        with self.lock:
            now_s = time.monotonic()
            self.failures.append(now_s)
            self.kinds[kind] += 1
            self.longest = max(self.longest, (now_s - began_s, began_s, kind))

    def last_failure(self, since_s: float) -> float | None:
        """When the last failure since a moment ended; None where there was none."""
        with self.lock:
            if self.failures and self.failures[-1] >= since_s:
                return self.failures[-1]
            return None


class GrowthLoad(Load):
    """The customers of `Load`, some who only look, and some who step registers.

    Registers `k…` are stepped under keys and sent again until that is answered;
    registers `n…` without a key and never again: what those were told of each
    outcome must be the truth.
    """

    def __init__(self, journal: Journal, port: int, rng: Random, threads: int = 8) -> None:
        super().__init__(journal, port, rng, threads)
        self.pulse = Pulse()
        self._said = threading.local()
        self.naive = {f"n{number}": Naive([]) for number in range(_NAIVE)}

    def _work(self, rng: Random) -> None:
        wire = Wire(self._port, timeout_s=30)
        while not self._stop.is_set():
            chance = rng.random()
            if chance < 0.15:
                done = self._step_without_key(wire, rng)
            elif chance < 0.35:
                done = self._look(wire, rng)
            else:
                done = self._send(wire, self._next(rng))
            self._stop.wait(rng.random() * 0.01 if done else 0.02)
        wire.close()

    def _new(self, rng: Random) -> Sent:
        if rng.random() < 0.3:
            key = str(UUID(int=rng.getrandbits(128), version=4))
            return Sent("step", key, f"/v1/registers/k{rng.randrange(_KEYED)}", {})
        return super()._new(rng)

    def _send(self, wire: Wire, sent: Sent) -> bool:
        began_s = time.monotonic()
        self._said.kind = "no answer"
        if super()._send(wire, sent):
            self.pulse.answered(f"{sent.kind}, answered", began_s)
            return True
        self.pulse.failed(self._said.kind, began_s)
        return False

    def _is_clean(self, answer: Answer) -> bool:
        self._said.kind = _kind(answer)
        return _is_clean(answer)

    def _look(self, wire: Wire, rng: Random) -> bool:
        with self._journal.lock:
            orders = [each for each in self._journal.sent[-100:] if each.kind == "order"]
            orders = [each for each in orders if each.status]
        began_s = time.monotonic()
        if not orders:
            return True
        order = rng.choice(orders).reply["id"]
        try:
            answer = wire.get(f"/v1/orders/{order}")
        except NoAnswerError:
            self.pulse.failed("no answer", began_s)
            return False
        if answer.status == 200:
            self.pulse.answered("an order's reading, answered", began_s)
            return True
        self.pulse.failed(_kind(answer), began_s)
        if not _is_clean(answer):
            self._journal.complain(f"order {order} was told and is asked for: {answer}")
        return False

    def _step_without_key(self, wire: Wire, rng: Random) -> bool:
        name = rng.choice(list(self.naive))
        told, began_s = self.naive[name], time.monotonic()
        try:
            answer = wire.post(f"/v1/registers/{name}", {})
        except NoAnswerError:
            told.maybe += 1
            self.pulse.failed("no answer", began_s)
            return False
        if answer.status == 200:
            told.told.append(answer.body["value"])
            self.pulse.answered("a step without a key, answered", began_s)
            return True
        self.pulse.failed(_kind(answer), began_s)
        if not _is_clean(answer):
            self._journal.complain(f"a step of {name} without a key: {answer}")
        if _outcome(answer) == "not_done":
            told.not_done += 1
        else:
            told.maybe += 1
        return False


def _outcome(answer: Answer) -> str:
    body = answer.body
    return str(body.get("outcome")) if isinstance(body, dict) else "none"


def _kind(answer: Answer) -> str:
    code = answer.body.get("code") if isinstance(answer.body, dict) else None
    return f"{answer.status} {code or ''} {_outcome(answer)}"


def _is_clean(answer: Answer) -> bool:
    """Whether a failure says truly, as far as that can be seen, what became of the request."""
    return answer.status in (503, 504) and _outcome(answer) in ("not_done", "maybe_done")
