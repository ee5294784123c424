"""The outside journal: what clients sent and what they were told, which no crash touches."""

from __future__ import annotations

import threading
from random import Random
from typing import Any
from uuid import UUID

import msgspec

from tests.faults.store_process import Answer, NoAnswerError, Wire

__all__ = ["Journal", "Load", "Sent"]


class Sent(msgspec.Struct):
    """One command, sent under its key until it was answered; `reply` is the first answer."""

    kind: str
    key: str
    path: str
    body: dict[str, Any]
    status: int = 0
    reply: Any = None
    tries: int = 0


class Journal:
    """Everything that was sent, in order, and whatever a client saw that must not be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent: list[Sent] = []
        self.unanswered: list[Sent] = []
        self.complaints: list[str] = []

    def told(self, kind: str) -> list[Sent]:
        """The commands of one kind that were answered."""
        return [each for each in self.sent if each.kind == kind and each.status]

    def complain(self, text: str) -> None:
        with self.lock:
            self.complaints.append(text)


class Load:
    """Customers and shopkeepers at work on the store, some of them impatient.

    Each thread sends one command after another; what was not answered is sent
    again under its key before anything new, and now and then something that was
    answered is sent again too: the answer must be the first one.
    """

    def __init__(self, journal: Journal, port: int, rng: Random, threads: int = 6) -> None:
        self._journal = journal
        self._port = port
        self._rng = rng
        self._threads = threads
        self._stop = threading.Event()
        self._running: list[threading.Thread] = []

    def start(self) -> None:
        self._stop.clear()
        self._running = [
            threading.Thread(target=self._work, args=(Random(self._rng.random()),))
            for _ in range(self._threads)
        ]
        for thread in self._running:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._running:
            thread.join()

    def settle(self) -> None:
        """Send until everything was answered. The store is running and stays so."""
        wire = Wire(self._port)
        while self._journal.unanswered:
            self._send(wire, self._journal.unanswered.pop())
        wire.close()

    def _work(self, rng: Random) -> None:
        wire = Wire(self._port)
        while not self._stop.is_set():
            if not self._send(wire, self._next(rng)):
                self._stop.wait(0.02)
            self._stop.wait(rng.random() * 0.01)
        wire.close()

    def _next(self, rng: Random) -> Sent:
        journal = self._journal
        with journal.lock:
            if journal.unanswered:
                return journal.unanswered.pop(rng.randrange(len(journal.unanswered)))
            answered = [each for each in journal.sent[-200:] if each.status]
            if answered and rng.random() < 0.1:
                return rng.choice(answered)
            sent = self._new(rng)
            journal.sent.append(sent)
            return sent

    def _new(self, rng: Random) -> Sent:
        key = str(UUID(int=rng.getrandbits(128), version=4))
        products = [each.reply["id"] for each in self._journal.told("product")]
        chance = rng.random()
        if not products or chance < 0.04:
            price = {
                "amount": f"{rng.randrange(100, 9999) / 100:.2f}",
                "currency": rng.choice(["GBP", "GBP", "EUR"]),
            }
            body = {"sku": f"F-{key[:18]}", "name": f"Thing {key[:8]}", "price": price}
            return Sent("product", key, "/v1/products", body)
        if chance < 0.2:
            path = f"/v1/products/{rng.choice(products)}/stock"
            return Sent("stock", key, path, {"quantity": rng.randrange(1, 40)})
        line = {"product_id": rng.choice(products), "quantity": rng.randrange(1, 6)}
        return Sent(
            "order", key, "/v1/orders", {"customer_id": f"c{rng.randrange(20)}", "lines": [line]}
        )

    def _send(self, wire: Wire, sent: Sent) -> bool:
        """Send once; whether it was answered. What was not goes back to be sent again."""
        journal = self._journal
        sent.tries += 1
        headers = {"idempotency-key": sent.key}
        if sent.kind == "order" and sent.body["customer_id"] in ("c1", "c2", "c3"):
            headers["prefer"] = "wait=2"
        try:
            answer = wire.send("POST", sent.path, sent.body, headers)
        except NoAnswerError:
            self._again(sent)
            return False
        if answer.status not in (200, 201):
            if not self._is_clean(answer):
                journal.complain(f"{sent.kind} {sent.key}: {answer}")
            self._again(sent)
            return False
        if not sent.status:
            sent.reply, sent.status = answer.body, answer.status
        elif _first(answer.body) != _first(sent.reply):
            journal.complain(f"{sent.key} was answered {sent.reply}, then {answer.body}")
        return True

    def _is_clean(self, answer: Answer) -> bool:
        """Whether a failure is one that may be: it says truly that nothing was done."""
        return bool(answer.status == 503 and answer.body["outcome"] == "not_done")

    def _again(self, sent: Sent) -> None:
        with self._journal.lock:
            if not sent.status and sent not in self._journal.unanswered:
                self._journal.unanswered.append(sent)


def _first(reply: Any) -> Any:
    """An answer without what may have changed since, where the client waited for the outcome."""
    return {name: value for name, value in reply.items() if name not in ("status", "reason")}
