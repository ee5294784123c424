"""Mounted applications that refuse to start or to stop, and what they are told and held to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tenfold.edges.http.mounts import MountFailedError, Mounts
from tenfold.edges.http.settings import HttpSettings, ReadinessState
from tests.http.shop import Caller

pytestmark = pytest.mark.anyio


class Mounted:
    """An application that speaks the lifespan protocol, and may say no at one of its two ends."""

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at = fails_at
        self.heard: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            kind = (await receive())["type"]
            self.heard.append(kind)
            failed = kind == self.fails_at
            await send({"type": f"{kind}.{'failed' if failed else 'complete'}", "message": "no"})


async def test_those_that_had_started_are_stopped_when_one_does_not_start() -> None:
    first, second = Mounted(), Mounted("lifespan.startup")
    with pytest.raises(MountFailedError, match=r"'/a' did not start: no\."):
        await Mounts({"/longer": first, "/a": second}).start()
    assert first.heard == ["lifespan.startup", "lifespan.shutdown"]


async def test_all_are_asked_to_stop_although_one_fails() -> None:
    first, second = Mounted(), Mounted("lifespan.shutdown")
    mounts = Mounts({"/longer": first, "/a": second})
    await mounts.start()
    with pytest.raises(MountFailedError, match=r"'/a' failed while it stopped: no\."):
        await mounts.stop()
    assert first.heard == ["lifespan.startup", "lifespan.shutdown"]


class Stream:
    """An application whose answer goes on until it is let go."""

    def __init__(self) -> None:
        self.began, self.let_go = asyncio.Event(), asyncio.Event()
        self.states: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.states.append(scope["state"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        self.began.set()
        await self.let_go.wait()
        await send({"type": "http.response.body", "body": b"."})


async def test_mounts_are_bounded_and_leave_room_for_calls() -> None:
    stream = Stream()
    caller = Caller(HttpSettings(max_concurrent=1), mounts={"/": stream})
    first = asyncio.ensure_future(caller.send("GET", "/follow"))
    await stream.began.wait()
    second = await caller.send("GET", "/follow")
    assert (second.status, second.json()["code"]) == (503, "admit.overloaded")
    assert (await caller.send("GET", "/v1/products")).status == 200
    stream.let_go.set()
    assert (await first).status == 200
    assert (await caller.send("GET", "/follow")).status == 200


@pytest.mark.parametrize("state", [ReadinessState.READY, ReadinessState.DRAINING])
async def test_a_mount_can_tell_that_the_product_is_stopping(state: ReadinessState) -> None:
    stream = Stream()
    stream.let_go.set()
    await Caller(mounts={"/": stream}, readiness=state).send("GET", "/follow")
    assert stream.states[0]["tenfold.draining"]() is (state is ReadinessState.DRAINING)
