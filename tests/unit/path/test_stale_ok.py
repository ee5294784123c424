"""Which questions between modules are asked for a decision, in a running host."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, final

import pytest

from tenfold import Contract, command, query, stale_ok
from tenfold.ports.unit import current_message
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology


class Answers(Contract, Protocol):
    """Says how it is asked."""

    @query(who="internal")
    async def for_a_decision(self) -> bool:
        """Whether this question is asked for a decision."""
        ...


class Asks(Contract, Protocol):
    """Asks, in every way."""

    @command(who="internal")
    async def decide(self) -> list[bool]:
        """Ask from a command: plainly, then with an older answer allowed."""
        ...

    @query(who="internal")
    async def look(self) -> list[bool]:
        """Ask from a query, in the same two ways."""
        ...


class Chains(Contract, Protocol):
    """Decides by what `Asks` finds out."""

    @command(who="internal")
    async def decide(self, stale: bool) -> list[bool]:
        """Ask the one who asks."""
        ...


@final
class AnswersModule(Answers):
    async def for_a_decision(self) -> bool:
        return current_message().decision


@final
class AsksModule(Asks):
    answers: Answers

    async def decide(self) -> list[bool]:
        return await self.look()

    async def look(self) -> list[bool]:
        fresh = await self.answers.for_a_decision()
        return [fresh, await stale_ok(self.answers).for_a_decision()]


@final
class ChainsModule(Chains):
    asks: Asks

    async def decide(self, stale: bool) -> list[bool]:
        return await (stale_ok(self.asks) if stale else self.asks).look()


@pytest.mark.anyio
async def test_a_command_asks_for_a_decision_unless_it_says_that_an_older_answer_will_do(
    tmp_path: Path,
) -> None:
    product = Product(
        name="house",
        root=tmp_path,
        modules={"answers": AnswersModule, "asks": AsksModule, "chains": ChainsModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(),
    )
    host = Host(product, data_dir=tmp_path / "data", create_tables=True)
    await host.start()
    try:
        asks, chains = host.proxy(Asks), host.proxy(Chains)
        assert await asks.decide() == [True, False]
        assert await asks.look() == [False, False]
        # What a query asks on behalf of a command is asked for the command's decision.
        assert await chains.decide(stale=False) == [True, False]
        assert await chains.decide(stale=True) == [False, False]
    finally:
        await host.stop()
