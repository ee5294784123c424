"""Old code on the new schema and new code on the old one, while both write, with no failure."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenfold.contracts.errors import ContractError
from tenfold.runtimes.migrations import status_of
from tenfold.runtimes.preparing import Phase, prepare
from tenfold.runtimes.process import RunningProduct, hosted
from tenfold.runtimes.roles import Role
from tenfold.runtimes.topology import Product, load_product
from tenfold.runtimes.verifying import verify_product
from tests.faults.two_versions import write_version

pytestmark = pytest.mark.anyio


class Writers:
    """Units of work of one version, many at once, from the block's beginning to its end."""

    def __init__(self, running: RunningProduct, contract: Any, count: int = 8) -> None:
        self.done = 0
        self.failures: list[BaseException] = []
        self._items: Any = running.proxy(contract)
        self._count = count
        self._stop = False

    async def __aenter__(self) -> Writers:
        self._tasks = [asyncio.create_task(self._write(n)) for n in range(self._count)]
        await self.more(20)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int) -> None:
        """Return when so many more are done, or one has failed."""
        wanted = self.done + count
        while self.done < wanted and not self.failures:
            await asyncio.sleep(0.005)

    async def _write(self, number: int) -> None:
        while not self._stop:
            try:
                await self._items.add(f"item {number}")
                await self._items.some()
            except Exception as error:
                self.failures.append(error)
                return
            self.done += 1


def version(folder: Path, number: int, url: str) -> tuple[Product, Any]:
    folder.mkdir()
    package = f"{folder.parent.name.replace('-', '_')}_{number}"
    write_version(folder, number, url, package=package)
    product = load_product(folder, "growth", environ={})
    return product, product.modules["items"].__mro__[1]


async def test_two_versions_write_before_between_and_after_their_migrations(
    postgres_url: str, tmp_path: Path
) -> None:
    old, old_contract = version(tmp_path / "old", 1, postgres_url)
    new, new_contract = version(tmp_path / "new", 2, postgres_url)
    said = await prepare(old, Phase.BEFORE)
    assert said == "1 migration: items 0001 Items."
    assert await prepare(old, Phase.AFTER) == ""
    async with (
        hosted(old, Role.WEB) as old_running,
        Writers(old_running, old_contract) as old_writers,
    ):
        await old_writers.more(200)
        said = await prepare(new, Phase.BEFORE)
        assert said.startswith("1 migration: items 0002")
        await old_writers.more(200)  # old code on the new schema
        async with (
            hosted(new, Role.WEB) as new_running,
            Writers(new_running, new_contract) as new_writers,
        ):
            await new_writers.more(200)  # new code on the old schema
            async with hosted(old, Role.WEB):  # old code may begin again
                assert await prepare(old, Phase.BEFORE) == await prepare(old, Phase.AFTER) == ""
            (status,) = await status_of(new)
            assert [step.revision for step in status.pending] == ["0003", "0004", "0005"]
            await old_writers.__aexit__()
            said = await prepare(new, Phase.AFTER)
            assert said.startswith("3 migrations: items 0003 Sizes of old items, items 0004")
            await new_writers.more(200)
    assert old_writers.failures == new_writers.failures == []
    assert await verify_product(new) == []
    connection = await asyncpg.connect(postgres_url)
    rows = await connection.fetchval("SELECT count(*) FROM items.items WHERE size = length(name)")
    assert rows == old_writers.done + new_writers.done + 1  # and the seed, once
    await connection.close()
    with pytest.raises(ContractError, match=r"items\.legacy"):
        async with hosted(old, Role.WEB):
            pass
