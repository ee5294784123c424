"""Mounted applications that refuse to start or to stop."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold.edges.http.mounts import MountFailedError, Mounts

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
