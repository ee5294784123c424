"""How new a state is that an answer is computed from, for whoever keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping

import msgspec

from tenfold.contracts.errors import StoreUnavailableError
from tenfold.path.operations import CompiledOperation
from tenfold.path.positions import ProjectionProgress
from tenfold.ports.replicas import Replicas

__all__ = ["FillPositions", "ModuleReach", "reach_of"]

_DATABASE = "DB"


class ModuleReach(msgspec.Struct, frozen=True):
    """What a module's answers can show beside its own rows.

    `asks` are the modules whose contracts it needs, `follows` those whose events
    its projections are kept from.
    """

    asks: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()
    projects: bool = False


def reach_of(modules: Mapping[str, ModuleReach], module: str) -> frozenset[str]:
    """Every module whose state can show in the answers of one, itself included."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        name = ahead.pop()
        if name not in found and name in modules:
            found.add(name)
            ahead += [*modules[name].asks, *modules[name].follows]
    return frozenset(found)


class FillPositions:
    """Says before and after a fill how far the logs are."""

    def __init__(
        self,
        epochs: Mapping[str, str],
        progress: Mapping[str, ProjectionProgress],
        replicas: Replicas | None,
        heads: Mapping[str, Callable[[], Awaitable[int]]],
        modules: Mapping[str, ModuleReach],
    ) -> None:
        """Bring together what is known.

        Args:
            heads: by module, how to ask for its outbox's newest position.
            modules: every module's reach.
        """
        self._epochs = epochs
        self._progress = progress
        self._replicas = replicas
        self._heads = heads
        self._modules = modules

    def reach(self, module: str) -> Collection[str]:
        """The names of a token's parts that matter to a module's answers."""
        found = reach_of(self._modules, module)
        return found if self._replicas is None else found | {_DATABASE + self._replicas.server}

    def epoch(self, module: str) -> str:
        """The identity of a module's log."""
        return self._epochs.get(module, "")

    @property
    def history(self) -> int:
        """The history of the database: another one after a replica took over."""
        return 0 if self._replicas is None else self._replicas.timeline

    async def before(self, operation: CompiledOperation) -> tuple[str | None, int]:
        """What an answer surely has that is computed from now on; and its module's position.

        A module with projections that lag is left out, and so is every other
        module's projection: what they have cannot be said from here.
        """
        own = operation.module.name
        parts: list[str] = []
        rank = 0
        for name in sorted(reach_of(self._modules, own)):
            head = await self._heads[name]()
            if name == own:
                rank = head
            if await self._shows(operation, name, head):
                parts.append(f"{name}.{self._epochs[name]}.{head}")
        place = await self._place()
        if place is not None:
            parts.append(place)
        return ",".join(parts) or None, rank

    async def after(self) -> str | None:
        """What an answer can have that was computed until now; None where all read one server."""
        return await self._place()

    async def _shows(self, operation: CompiledOperation, name: str, head: int) -> bool:
        """Whether an answer of `operation` surely has what module `name` published up to `head`."""
        own = operation.module.name
        reach = self._modules
        for other in reach_of(reach, own) - {own}:
            if reach[other].projects and name in reach[other].follows:
                return False
        if name not in reach[own].follows:
            return True
        progress = self._progress.get(own)
        if progress is None:
            return False
        for projection in operation.spec.declaration.projections:
            if not await progress.reached(projection, name, head):
                return False
        return True

    async def _place(self) -> str | None:
        replicas = self._replicas
        if replicas is None:
            return None
        try:
            place = await replicas.written()
        except StoreUnavailableError:
            return None
        return f"{_DATABASE}{replicas.server}.{replicas.timeline}.{place}"
