"""One customer's session in the boutique, and what a side answers to it."""

from __future__ import annotations

import json
import random
from typing import Any

from benchmarks.boutique.shopping import Session
from tests.http.serving import talk

__all__ = ["answers_of"]


def answers_of(port: int) -> list[tuple[int, Any]]:
    """Status and body of each answer; of errors the status alone, of orders all but their ids."""
    here = Session(port, "ada", random.Random(7))
    nobody = Session(port, "grace", random.Random(8))
    steps = [
        here.home(),
        here.set_currency(),
        here.browse("3TEAPOT003"),
        here.add("3TEAPOT003", 2),
        here.add("9MUGRED009", 1),
        here.add("3TEAPOT003", 3),
        here.view(),
        here.home(),
        here.browse("9MUGRED009"),
        here.buy(month=13, year=2020),
        here.buy(number="4432-8015-6152-0455"),
        here.view(),
        here.buy(),
        here.view(),
        here.buy(),
        here.browse("0NOTHING00"),
        here.add("0NOTHING00", 1),
        here.add("3TEAPOT003", 11),
        nobody.view(),
        nobody.buy(),
        *here.play(),
        here.view(),
    ]
    return [_answer(talk(port, step)) for step in steps]


def _answer(raw: bytes) -> tuple[int, Any]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if status >= 400:
        return status, None
    told = json.loads(body)
    if "transaction" in told:
        assert told.pop("id")
    return status, told
