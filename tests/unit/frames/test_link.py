"""Frames: both ends of a connection, over a real socket, before a small entry."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import msgspec
import pytest

from tenfold import Contract, Money, Outcome, Refusal, Struct, command, query
from tenfold.adapters.frames.link import FrameLink, connect
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import OPERATOR, TraceContext
from tenfold.contracts.errors import (
    HandlerFaultError,
    InvalidArgumentsError,
    OverloadedError,
    UnknownOperationError,
)
from tenfold.edges.frames import FrameServer
from tenfold.path.entry import Incoming, Reply
from tenfold.ports.frames import (
    MAX_FRAME_BYTES,
    PREFIX,
    VERSION,
    Answered,
    Call,
    Cancel,
    Failed,
    FrameError,
    Hello,
    PeerLostError,
    PeerUnavailableError,
    pack,
    raw,
)
from tenfold.ports.peers import Outgoing

pytestmark = pytest.mark.anyio


class Quote(Struct):
    id: UUID
    price: Money


class SoldOut(Refusal, status=409):
    """Nothing is left."""

    left: int


class Shop(Contract, Protocol):
    """A shop."""

    @command(who="internal", raises=[SoldOut])
    async def buy(self, quantity: int) -> Quote:
        """Buy."""
        ...

    @query(who="internal")
    async def look(self, what: str) -> str:
        """Look."""
        ...

    @command(who="internal")
    async def wait(self) -> None:
        """Wait."""
        ...


SHOP = read_contract(Shop)
OPERATIONS = {f"shop.{name}": spec for name, spec in SHOP.operations.items()}
QUOTE = Quote(id=UUID(int=7), price=Money(amount=Decimal("2.55"), currency="GBP"))
TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class SmallEntry:
    """Answers without a path, and notes what it was handed."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def call(self, incoming: Incoming) -> Reply:
        self.seen.append(incoming)
        arguments: Any = incoming.arguments
        if incoming.operation.name == "wait":
            self.begun.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
            return Reply(value=None, trace=TRACE)
        if incoming.operation.name == "look":
            return Reply(value=self._look(arguments.what), trace=TRACE)
        if arguments.quantity > 3:
            raise SoldOut(left=3)
        return Reply(value=QUOTE, trace=TRACE)

    def _look(self, what: str) -> str:
        if what == "fault":
            raise HandlerFaultError("It broke.", outcome=Outcome.MAYBE_DONE)
        if what == "surprise":
            raise ZeroDivisionError
        if what == "busy":
            raise OverloadedError("Too much.", retry_after_s=2.5)
        if what == "much":
            return "x" * (MAX_FRAME_BYTES + 1)
        return what.upper()


@pytest.fixture
def entry() -> SmallEntry:
    return SmallEntry()


@pytest.fixture
def server(entry: SmallEntry) -> FrameServer:
    return FrameServer("test", entry, OPERATIONS, most=3)


@pytest.fixture
async def socket_path(server: FrameServer) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        path = Path(folder) / "s"
        await server.start(path)
        yield path
        await server.stop(drain_s=1)


@pytest.fixture
async def client(socket_path: Path) -> AsyncIterator[FrameLink]:
    async with await connect(socket_path) as connected:
        yield connected


Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def ask(client: FrameLink) -> Ask:
    async def call(name: str, more: dict[str, Any] | None = None, /, **arguments: Any) -> Any:
        spec = SHOP.operations[name]
        outgoing = Outgoing(operation=spec, arguments=spec.arguments(**arguments), **(more or {}))
        return (await client.call(outgoing)).value

    return call


async def test_an_answer_has_the_types_of_the_contract(ask: Ask) -> None:
    assert await ask("buy", quantity=1) == QUOTE


async def test_a_call_is_internal_and_carries_its_key(ask: Ask, entry: SmallEntry) -> None:
    await ask("buy", {"key": "k1", "timeout_s": 2.0}, quantity=1)
    assert entry.seen[0].internal
    assert (entry.seen[0].idempotency_key, entry.seen[0].timeout_s) == ("k1", 2.0)


async def test_a_call_from_outside_stays_one(ask: Ask, entry: SmallEntry) -> None:
    await ask("look", {"outside": True, "position": "p", "decision": True}, what="a")
    await ask("look", {"queued": True, "wait_s": 3.0, "tenant": "t"}, what="a")
    first, second = entry.seen
    assert (first.internal, first.counted, first.decision, first.position) == (
        False,
        True,
        True,
        "p",
    )
    assert (second.internal, second.counted, second.queued, second.wait_s, second.tenant) == (
        True,
        False,
        True,
        3.0,
        "t",
    )


async def test_the_module_that_is_named_is_called(client: FrameLink) -> None:
    spec = SHOP.operations["look"]
    outgoing = Outgoing(operation=spec, module="shed", arguments=spec.arguments(what="a"))
    with pytest.raises(UnknownOperationError, match=r"shed\.look"):
        await client.call(outgoing)


async def test_who_does_not_read_is_not_read_from_and_holds_up_no_end(
    server: FrameServer, socket_path: Path, entry: SmallEntry
) -> None:
    _, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(pack(Hello(version=VERSION)))
    arguments = raw({"what": "x" * 1_000_000})
    sent = 0
    stuck = False
    while not stuck:  # until nothing more can be written, since its answers are not read
        sent += 1
        writer.write(
            pack(Call(number=sent, target="shop.look", arguments=arguments, principal=OPERATOR))
        )
        try:
            await asyncio.wait_for(writer.drain(), 1)
        except TimeoutError:
            stuck = True
    assert len(entry.seen) < sent
    await asyncio.wait_for(server.stop(drain_s=0.1), 10)
    assert not server.connections
    writer.transport.abort()


async def test_a_refusal_is_raised_again_with_its_fields(ask: Ask) -> None:
    with pytest.raises(SoldOut) as raised:
        await ask("buy", quantity=4)
    assert raised.value.left == 3


async def test_an_error_keeps_its_class_and_outcome(ask: Ask) -> None:
    with pytest.raises(HandlerFaultError, match="It broke") as raised:
        await ask("look", what="fault")
    assert raised.value.outcome is Outcome.MAYBE_DONE
    with pytest.raises(OverloadedError) as overloaded:
        await ask("look", what="busy")
    assert overloaded.value.retry_after_s == 2.5


async def test_an_unforeseen_exception_says_nothing_of_its_inside_but_to_the_log(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HandlerFaultError, match="unexpected ZeroDivisionError"):
        await ask("look", what="surprise")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


async def test_arguments_are_validated_where_they_arrive(ask: Ask) -> None:
    with pytest.raises(InvalidArgumentsError) as raised:
        await ask("buy", quantity="many")
    assert raised.value.field == "quantity"


async def test_many_calls_share_one_connection(ask: Ask, entry: SmallEntry) -> None:
    waiting = asyncio.ensure_future(ask("wait"))
    await entry.begun.wait()
    assert await ask("look", what="a") == "A"
    entry.release.set()
    assert await waiting is None


async def test_calls_above_the_bound_are_shed(ask: Ask, entry: SmallEntry) -> None:
    waiting = [asyncio.ensure_future(ask("wait")) for _ in range(3)]
    await entry.begun.wait()
    with pytest.raises(OverloadedError, match="3 calls are in progress"):
        await ask("look", what="a")
    entry.release.set()
    await asyncio.gather(*waiting)


async def test_a_caller_that_stops_waiting_cancels_the_call(ask: Ask, entry: SmallEntry) -> None:
    waiting = asyncio.ensure_future(ask("wait"))
    await entry.begun.wait()
    waiting.cancel()
    await asyncio.wait_for(entry.cancelled.wait(), 5)


async def test_a_caller_that_goes_cancels_its_calls(socket_path: Path, entry: SmallEntry) -> None:
    client = await connect(socket_path)
    spec = SHOP.operations["wait"]
    waiting = asyncio.ensure_future(
        client.call(Outgoing(operation=spec, arguments=spec.arguments()))
    )
    await entry.begun.wait()
    client.close()
    await asyncio.wait_for(entry.cancelled.wait(), 5)
    with pytest.raises(PeerLostError):
        await waiting


async def test_a_lost_command_may_have_run_and_a_lost_query_has_not(
    client: FrameLink, ask: Ask, entry: SmallEntry, socket_path: Path
) -> None:
    waiting = asyncio.ensure_future(ask("wait"))
    await entry.begun.wait()
    assert client.transport is not None
    client.transport.abort()
    with pytest.raises(PeerLostError, match="may still have run") as raised:
        await waiting
    assert raised.value.outcome is Outcome.MAYBE_DONE
    with pytest.raises(PeerUnavailableError) as unsent:
        await ask("look", what="a")
    assert unsent.value.outcome is Outcome.NOT_DONE


async def test_answers_that_have_come_count_though_the_connection_is_lost(
    client: FrameLink, ask: Ask
) -> None:
    calls = [asyncio.ensure_future(ask("look", what="a")) for _ in range(400)]
    while len(client._waiting) < len(calls):
        await asyncio.sleep(0)
    numbers = list(client._waiting)
    client.data_received(b"".join(pack(Answered(number, raw("A"))) for number in numbers))
    assert client.transport is not None
    client.transport.abort()
    assert await asyncio.gather(*calls) == ["A"] * len(calls)


async def test_an_answer_too_large_to_travel_says_that_the_work_is_done(ask: Ask) -> None:
    with pytest.raises(FrameError) as raised:
        await ask("look", what="much")
    assert raised.value.outcome is Outcome.DONE
    assert await ask("look", what="a") == "A"


async def test_an_operation_that_is_not_offered_is_named(client: FrameLink) -> None:
    class Other(Contract, Protocol):
        """Another."""

        @query(who="internal")
        async def nothing(self) -> None:
            """Nothing."""
            ...

    spec = msgspec.structs.replace(SHOP.operations["look"], name="peek")
    with pytest.raises(UnknownOperationError, match=r"shop\.peek"):
        await client.call(Outgoing(operation=spec, arguments=spec.arguments(what="a")))
    other = msgspec.structs.replace(spec, contract="Other")
    with pytest.raises(UnknownOperationError, match="no module that offers Other"):
        await client.call(Outgoing(operation=other, arguments=spec.arguments(what="a")))


async def test_only_the_owner_may_open_the_socket(socket_path: Path) -> None:
    assert stat.S_IMODE(os.stat(socket_path).st_mode) == 0o600


async def test_another_version_is_told_so(socket_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(pack(Hello(version=99)))
    (size,) = PREFIX.unpack(await reader.readexactly(4))
    answer = msgspec.msgpack.decode(await reader.readexactly(size), type=Failed)
    assert (answer.number, answer.code) == (0, "call.protocol")
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        PREFIX.pack(2) + b"\x91\x01",
    ],
    ids=["too-large", "no-messagepack", "http", "wrong-shape"],
)
async def test_noise_ends_its_connection_and_no_other(
    socket_path: Path, ask: Ask, noise: bytes
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(noise)
    assert b"call.protocol" in await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert await ask("look", what="a") == "A"


async def test_nobody_at_the_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(PeerUnavailableError):
        await connect(tmp_path / "none")


async def test_a_call_that_is_cancelled_before_it_begins_takes_no_room(
    socket_path: Path, ask: Ask, entry: SmallEntry
) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    writer.write(pack(Hello(version=VERSION)))
    arguments = raw({"what": "a"})
    for number in range(1, 11):  # more than there is room for, each with its cancellation
        call = Call(number=number, target="shop.look", arguments=arguments, principal=OPERATOR)
        writer.write(pack(call) + pack(Cancel(number)))
        await asyncio.sleep(0.005)
    writer.write(pack(msgspec.structs.replace(call, number=99)))
    wanted = pack(Answered(99, raw("A")))
    received = b""
    while wanted[-4:] not in received:
        received += await asyncio.wait_for(reader.read(65_536), 5)
    assert b"overloaded" not in received
    writer.close()


async def test_frames_are_read_however_they_are_cut(socket_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(socket_path))
    call = Call(number=1, target="shop.look", arguments=raw({"what": "b"}), principal=OPERATOR)
    for byte in pack(Hello(version=VERSION)) + pack(call):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)
    received = b""
    while not received.endswith(pack(Answered(1, raw("B")))):
        received += await asyncio.wait_for(reader.read(65_536), 5)
    writer.close()
