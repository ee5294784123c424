"""How frames come out of what a connection brings."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from tenfold.ports.frames import Cancel, Frame, FrameError, Wire, pack

pytestmark = pytest.mark.anyio
MANY = b"".join(pack(Cancel(number)) for number in range(2_000))


class Heard(Wire):
    """Notes what comes, and in which turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[int] = []
        self.turns: list[int] = []
        self.errors: list[FrameError] = []
        self.turn = 0
        self.more = asyncio.Event()

    def came(self, frame: Frame) -> None:
        assert isinstance(frame, Cancel)
        self.frames.append(frame.number)
        self.turns.append(self.turn)
        self.more.set()

    def failed(self, error: FrameError) -> None:
        self.errors.append(error)

    async def hear(self, count: int) -> None:
        """Count turns until so many frames have come."""
        async with asyncio.timeout(10):
            while len(self.frames) < count:
                self.turn += 1
                await asyncio.sleep(0)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Heard, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    _, wire = await asyncio.get_running_loop().create_unix_connection(Heard, sock=ours)
    yield wire, theirs
    theirs.close()
    wire.close()
    await wire.ended.wait()


async def test_each_turn_takes_a_part_of_much_that_has_come(
    ends: tuple[Heard, socket.socket],
) -> None:
    wire, theirs = ends
    theirs.sendall(MANY)
    await wire.hear(2_000)
    assert wire.frames == list(range(2_000))
    most = max(wire.turns.count(turn) for turn in set(wire.turns))
    assert 0 < most <= 2_000 / 3


async def test_little_is_taken_at_once(ends: tuple[Heard, socket.socket]) -> None:
    wire, theirs = ends
    theirs.sendall(b"".join(pack(Cancel(number)) for number in range(20)))
    await wire.hear(20)
    assert len(set(wire.turns)) == 1


@pytest.mark.parametrize("size", [1, 7, 100, 3_000])
async def test_frames_stay_whole_and_in_order_however_they_come(
    ends: tuple[Heard, socket.socket], size: int
) -> None:
    wire, _ = ends
    for at in range(0, len(MANY), size):
        wire.data_received(MANY[at : at + size])
        if at % (5 * size) == 0:
            await asyncio.sleep(0)
    await wire.hear(2_000)
    assert wire.frames == list(range(2_000))
    assert not wire.errors


async def test_what_came_before_the_end_is_taken(ends: tuple[Heard, socket.socket]) -> None:
    wire, theirs = ends
    theirs.sendall(MANY)
    theirs.close()
    await wire.ended.wait()
    assert wire.frames == list(range(2_000))


async def test_after_what_cannot_be_read_nothing_is_taken(
    ends: tuple[Heard, socket.socket],
) -> None:
    wire, _ = ends
    wire.data_received(MANY[:6_000] + b"\x00\x00\x00\x01\xc1" + MANY)
    await wire.ended.wait()
    assert 0 < len(wire.frames) < 2_000
    assert wire.frames == list(range(len(wire.frames)))
    assert len(wire.errors) == 1
