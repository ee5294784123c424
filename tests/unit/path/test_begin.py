"""An entry is begun at once, and is awaited only where there is something to wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol, final

import msgspec
import pytest

from tenfold import Contract, Event, command, job, publish
from tenfold.contracts.errors import OutOfUnitOfWorkError, TenfoldError
from tenfold.path.delivery import Delivery
from tenfold.ports.records import Claimed, Cycle
from tenfold.ports.unit import Message, current_message
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tests.unit.path.tally_contract import Tally

pytestmark = pytest.mark.anyio


class Done(Event, version=1):
    """Something was done."""

    how: str


class Chores(Contract, Protocol):
    """Has chores done."""

    @command(who="anyone")
    async def ask(self, how: str) -> str:
        """Enqueue one."""
        ...


@final
class TallyModule(Tally):
    def __init__(self) -> None:
        self.added: list[int] = []

    async def add(self, number: int) -> int:
        self.added.append(number)
        return len(self.added)


@final
class ChoresModule(Chores):
    tally: Tally

    def __init__(self) -> None:
        self.seen: list[Any] = []

    async def ask(self, how: str) -> str:
        return self.chore.enqueue(how)

    @job(attempts=2, timeout_s=5.0)
    async def chore(self, how: str) -> None:
        """Do it."""
        message = current_message()
        self.seen.append(how)
        match how:
            case "publish":
                publish(Done(how=how))
            case "look":
                self.seen.append(message.envelope)
            case "fail":
                raise ValueError("no")
            case "wait":
                await asyncio.sleep(0)
            case "call":
                self.seen += [await self.tally.add(7), await self.tally.add(7)]
                self.seen.append(await self.tally.add(8))
            case "later":
                self.seen.append(asyncio.create_task(_late()))
            case _:
                self.seen.append(message)


async def _late() -> None:
    publish(Done(how="late"))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(
        Product(
            name="chores",
            root=tmp_path,
            modules={"chores": ChoresModule, "tally": TallyModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        ),
        data_dir=tmp_path,
    )
    await made.start()
    await made.worker("chores").drain(1.0)
    yield made
    await made.stop()


def seen(host: Host) -> list[Any]:
    instance: Any = host.modules["chores"].instance
    assert isinstance(instance, ChoresModule)
    return instance.seen


async def claimed(host: Host, how: str) -> tuple[Delivery, Claimed, int]:
    await host.proxy(Chores).ask(how)
    cycle = Cycle(finished=[], renew=[], want=1, lease_s=60.0)
    claim = (await host.modules["chores"].queue.cycle(cycle)).claim
    assert claim is not None
    return host.delivery("chores"), claim.entries[0], claim.fence


def handled(host: Host, outcome: str) -> int:
    counts = host.modules["chores"].resources.stops.handle.snapshot()
    found = [c.count for c in counts if (c.label, c.outcome) == ("chores.chore", outcome)]
    return sum(found)


async def test_what_waits_for_nothing_and_has_no_effect_has_ended_when_it_is_begun(
    host: Host,
) -> None:
    delivery, entry, fence = await claimed(host, "nothing")
    assert delivery.begin(entry, fence) is None
    assert seen(host)[0] == "nothing"
    assert handled(host, "ok") == 1


async def test_what_has_an_effect_is_awaited_until_it_is_committed(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "publish")
    rest = delivery.begin(entry, fence)
    assert rest is not None
    assert seen(host) == ["publish"]
    await rest
    assert seen(host) == ["publish"]
    assert (await host.modules["chores"].outbox.head()) > 0
    assert handled(host, "ok") == 1


async def test_what_waits_goes_on_from_where_it_is(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "wait")
    rest = delivery.begin(entry, fence)
    assert rest is not None
    await rest
    assert seen(host) == ["wait"]


async def test_each_call_of_a_command_has_a_key_of_its_own_whatever_the_first_step_called(
    host: Host,
) -> None:
    delivery, entry, fence = await claimed(host, "call")
    await delivery.handle(entry, fence)
    assert seen(host) == ["call", 1, 2, 3]
    tally: Any = host.modules["tally"].instance
    assert tally.added == [7, 7, 8]
    with contextlib.suppress(TenfoldError):
        await delivery.handle(entry, fence)  # delivered again: answered as the first time
    assert tally.added == [7, 7, 8]
    assert seen(host)[:8] == ["call", 1, 2, 3, "call", 1, 2, 3]


async def test_an_error_of_the_first_step_is_raised_where_it_is_awaited(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "fail")
    rest = delivery.begin(entry, fence)
    assert rest is not None
    with pytest.raises(ValueError, match="no"):
        await rest
    assert handled(host, "fault") == 1


async def test_the_envelope_of_a_message_is_its_handlers(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "look")
    await delivery.handle(entry, fence)
    envelope = seen(host)[1]
    sent = msgspec.msgpack.decode(entry.body)
    assert (envelope.id, envelope.target) == (entry.message_id, "chores.chore")
    assert envelope.trace.trace_id == sent["trace"]["trace_id"]
    assert envelope.trace.span_id != sent["trace"]["span_id"]


async def test_the_unit_of_work_is_closed_when_the_handler_has_ended(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "later")
    assert delivery.begin(entry, fence) is None
    late = seen(host)[1]
    with pytest.raises(OutOfUnitOfWorkError, match="after its unit of work had ended"):
        await late


async def test_a_message_has_nothing_but_what_a_message_has(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "nothing")
    await delivery.handle(entry, fence)
    message = seen(host)[1]
    assert isinstance(message, Message)
    with pytest.raises(AttributeError, match="no 'colour'"):
        getattr(message, "colour")  # noqa: B009


async def test_a_body_that_cannot_be_read_fails_before_it_is_begun(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "nothing")
    broken = msgspec.structs.replace(entry, body=b"\xc1")
    with pytest.raises(msgspec.DecodeError):
        delivery.begin(broken, fence)
    assert seen(host) == []
