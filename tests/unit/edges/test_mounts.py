"""Mounts: found by prefix, started in order, stopped in reverse, told when they fail."""

from __future__ import annotations

from typing import Any

import pytest

from tenfold.contracts.errors import ContractError
from tenfold.edges.http.mounts import DRAINING, MountFailedError, Mounts


class App:
    """An application that speaks the lifespan protocol, or fails at a point of it."""

    def __init__(self, name: str, told: list[str], fails: str = "") -> None:
        self.name, self.told, self.fails = name, told, fails

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            state = {key: value for key, value in scope["state"].items() if key != DRAINING}
            self.told.append(f"{self.name} serves {scope['root_path']} {state}")
            return
        if self.fails == "unspoken":
            raise KeyError("lifespan")
        for phase in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{phase}"
            self.told.append(f"{self.name} {phase}")
            if self.fails == phase:
                await send({"type": f"lifespan.{phase}.failed", "message": f"no {phase} today"})
                return
            scope["state"]["name"] = self.name
            await send({"type": f"lifespan.{phase}.complete"})


@pytest.mark.anyio
async def test_they_start_in_order_and_stop_in_reverse() -> None:
    told: list[str] = []
    mounts = Mounts({"/": App("root", told), "/admin": App("admin", told)})
    await mounts.start()
    await mounts.stop()
    assert told == ["admin startup", "root startup", "root shutdown", "admin shutdown"]


@pytest.mark.anyio
async def test_one_that_does_not_start_stops_the_others_and_says_why() -> None:
    told: list[str] = []
    mounts = Mounts({"/": App("root", told, "startup"), "/admin": App("admin", told)})
    with pytest.raises(MountFailedError, match=r"mounted at '/' did not start: no startup today\."):
        await mounts.start()
    assert told == ["admin startup", "root startup", "admin shutdown"]


@pytest.mark.anyio
async def test_one_that_fails_at_the_stop_does_not_spare_the_others() -> None:
    told: list[str] = []
    mounts = Mounts({"/": App("root", told, "shutdown"), "/admin": App("admin", told)})
    await mounts.start()
    with pytest.raises(MountFailedError, match=r"'/' failed while it stopped: no shutdown today"):
        await mounts.stop()
    assert told[-1] == "admin shutdown"


@pytest.mark.anyio
async def test_one_without_a_lifespan_needs_none() -> None:
    told: list[str] = []
    mounts = Mounts({"/plain": App("plain", told, "unspoken")})
    await mounts.start()
    assert await mounts.serve({"type": "http"}, None, None, "/plain/x")  # type: ignore[arg-type]
    await mounts.stop()
    assert told == ["plain serves /plain {}"]


@pytest.mark.anyio
async def test_the_longest_prefix_serves_with_the_state_of_its_own_start() -> None:
    told: list[str] = []
    mounts = Mounts({"/a": App("a", told), "/a/b": App("b", told)})
    await mounts.start()
    for path in ("/a", "/a/c", "/a/b", "/a/b/c", "/ab", "/"):
        served = await mounts.serve({"type": "http"}, None, None, path)  # type: ignore[arg-type]
        assert served == (path not in ("/ab", "/"))
    await mounts.stop()
    assert [line for line in told if "serves" in line] == [
        "a serves /a {'name': 'a'}",
        "a serves /a {'name': 'a'}",
        "b serves /a/b {'name': 'b'}",
        "b serves /a/b {'name': 'b'}",
    ]


@pytest.mark.parametrize("prefix", ["", "a", "/a/", "//"])
def test_a_prefix_that_cannot_be_served_is_refused(prefix: str) -> None:
    with pytest.raises(ContractError, match="has no usable prefix"):
        Mounts({prefix: App("a", [])})
