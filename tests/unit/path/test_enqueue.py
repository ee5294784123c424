"""Enqueuing a job binds its arguments as a call does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol, final

import pytest

from tenfold import Contract, command, job
from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology

pytestmark = pytest.mark.anyio
DONE: list[tuple[str, int]] = []


class Post(Contract, Protocol):
    """A post office."""

    @command(who="anyone")
    async def send(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        """Enqueue with these arguments."""
        ...


@final
class PostModule(Post):
    async def send(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.deliver.enqueue(*args, **kwargs)

    @job()
    async def deliver(self, to: str, copies: int = 1) -> None:
        """Deliver."""
        DONE.append((to, copies))


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    DONE.clear()
    made = Host(
        Product(
            name="post",
            root=tmp_path,
            modules={"post": PostModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        ),
        data_dir=tmp_path,
    )
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize(
    ("args", "kwargs", "done"),
    [
        (["a"], {}, ("a", 1)),
        (["a", 2], {}, ("a", 2)),
        (["a"], {"copies": 3}, ("a", 3)),
        ([], {"copies": 3, "to": "b"}, ("b", 3)),
    ],
)
async def test_arguments_are_bound_by_place_and_by_name(
    host: Host, args: list[Any], kwargs: dict[str, Any], done: tuple[str, int]
) -> None:
    await host.proxy(Post).send(args, kwargs)
    await host.idle()
    assert [done] == DONE


@pytest.mark.parametrize(
    ("args", "kwargs", "told"),
    [
        (["a", 1, 2], {}, "takes 2 arguments and got 3"),
        ([], {}, "missing required field `to`"),
        ([1], {}, "at to: Expected `str`"),
        (["a"], {"to": "b"}, "got 'to' twice"),
        (["a"], {"copy": 2}, "has no argument 'copy'"),
    ],
)
async def test_wrong_arguments_are_refused_and_nothing_is_enqueued(
    host: Host, args: list[Any], kwargs: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidArgumentsError, match=told):
        await host.proxy(Post).send(args, kwargs)
    await host.idle()
    assert DONE == []
