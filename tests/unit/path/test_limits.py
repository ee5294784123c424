"""Time limits: of a call, of an attempt; and what only looks like one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, final

import pytest

from tenfold import Contract, command, job, query
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    Outcome,
    UnknownOperationError,
)
from tenfold.path.delivery import Delivery
from tenfold.path.entry import Incoming
from tenfold.ports.records import Claimed, Cycle
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology

pytestmark = pytest.mark.anyio


class Slow(Contract, Protocol):
    """Takes its time."""

    @command(who="anyone")
    async def begin(self, how: str) -> str:
        """Enqueue a job."""
        ...

    @query(who="anyone", timeout_s=0.03)
    async def wait(self, how: str) -> None:
        """Never answers in time."""
        ...


@final
class SlowModule(Slow):
    async def begin(self, how: str) -> str:
        return self.work.enqueue(how)

    async def wait(self, how: str) -> None:
        await misbehave(how)

    @job(attempts=1, timeout_s=0.03)
    async def work(self, how: str) -> None:
        """Misbehave."""
        await misbehave(how)


async def misbehave(how: str) -> None:
    if how == "hang":
        await asyncio.Event().wait()
    raise TimeoutError("a provider did not answer")


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(
        Product(
            name="slow",
            root=tmp_path,
            modules={"slow": SlowModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        ),
        data_dir=tmp_path,
    )
    await made.start()
    await made.worker("slow").drain(1.0)
    yield made
    await made.stop()


async def claimed(host: Host, how: str) -> tuple[Delivery, Claimed, int]:
    await host.proxy(Slow).begin(how)
    cycle = Cycle(finished=[], renew=[], want=1, lease_s=60.0)
    claim = (await host.modules["slow"].queue.cycle(cycle)).claim
    assert claim is not None
    return host.delivery("slow"), claim.entries[0], claim.fence


async def test_an_attempt_that_outlasts_its_limit_is_ended_with_nothing_done(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "hang")
    with pytest.raises(DeadlineExceededError, match=r"took longer than its 0\.03 s") as caught:
        await delivery.handle(entry, fence)
    assert caught.value.outcome is Outcome.NOT_DONE


async def test_a_timeout_that_a_job_raises_itself_is_not_its_limit(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "raise")
    with pytest.raises(TimeoutError, match="a provider did not answer"):
        await delivery.handle(entry, fence)


async def test_an_entry_of_a_handler_that_this_code_lacks_is_told_so(host: Host) -> None:
    delivery, entry, fence = await claimed(host, "hang")
    stranger = Claimed(
        **{name: getattr(entry, name) for name in entry.__struct_fields__} | {"handler": "gone"}
    )
    with pytest.raises(UnknownOperationError, match=r"no handler 'gone'.*\['work'\]"):
        await delivery.handle(stranger, fence)


async def test_a_call_that_outlasts_its_limit_is_ended(host: Host) -> None:
    with pytest.raises(DeadlineExceededError, match=r"slow\.wait took longer than its 0\.03 s"):
        await host.proxy(Slow).wait("hang")


async def test_a_limit_that_the_loop_ends_a_trifle_early_is_still_the_limit(host: Host) -> None:
    # A busy loop counts in whole milliseconds, and so ends a limit up to one too early.
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    spec = host.operations["slow.wait"]
    incoming = Incoming(
        operation=spec, arguments=spec.arguments(how="hang"), principal=OPERATOR, timeout_s=0.002
    )
    busy = asyncio.create_task(spin())
    try:
        for _ in range(30):
            with pytest.raises(DeadlineExceededError):
                await host.entry.call(incoming)
    finally:
        busy.cancel()


async def test_a_caller_shortens_the_limit_and_never_lengthens_it(host: Host) -> None:
    spec = host.operations["slow.wait"]
    for wanted, held in ((0.01, 0.01), (60.0, 0.03)):
        with pytest.raises(DeadlineExceededError, match=f"its {held:g} s"):
            await host.entry.call(
                Incoming(
                    operation=spec,
                    arguments=spec.arguments(how="hang"),
                    principal=OPERATOR,
                    timeout_s=wanted,
                )
            )


async def test_a_timeout_that_a_query_raises_itself_is_a_fault(host: Host) -> None:
    with pytest.raises(HandlerFaultError, match="a provider did not answer"):
        await host.proxy(Slow).wait("raise")
