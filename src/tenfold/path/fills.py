"""How new a state is that an answer is computed from, for whoever keeps it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from tenfold.contracts.errors import StoreUnavailableError
from tenfold.path.kept import DATABASE
from tenfold.path.operations import CompiledOperation, Operation, RemoteOperation
from tenfold.path.positions import ProjectionProgress
from tenfold.ports.replicas import Replicas

__all__ = ["Before", "FillPositions", "ModuleReach", "reach_of"]


class ModuleReach(msgspec.Struct, frozen=True):
    """What a module's answers can show beside its own rows.

    `asks` are the modules whose contracts it needs, `follows` those whose events
    its projections are kept from.
    """

    asks: tuple[str, ...] = ()
    follows: tuple[str, ...] = ()


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


class Before(msgspec.Struct, frozen=True):
    """How far things were before an answer was computed.

    `lags` are the modules whose events the query's own projections had not all
    worked; `place` is the database's, where it has replicas.
    """

    heads: dict[str, int]
    lags: frozenset[str]
    place: str | None


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

    def epoch(self, module: str) -> str:
        """The identity of a module's log."""
        return self._epochs.get(module, "")

    @property
    def history(self) -> int:
        """The history of the database: another one after a replica took over."""
        return 0 if self._replicas is None else self._replicas.timeline

    async def before(self, operation: CompiledOperation) -> Before:
        """How far the logs are that an answer of `operation` can come from."""
        own = operation.module.name
        heads = {name: await self._heads[name]() for name in reach_of(self._modules, own)}
        lags = {
            name
            for name in self._modules[own].follows
            for projection in operation.spec.declaration.projections
            if not await self._reached(own, projection, name, heads.get(name, 0))
        }
        return Before(heads=heads, lags=frozenset(lags), place=await self._place())

    async def after(self) -> str | None:
        """What an answer can have that was computed until now; None where all read one server."""
        return await self._place()

    def covered(
        self, operation: CompiledOperation, before: Before, asked: Sequence[Operation]
    ) -> tuple[str | None, tuple[str, ...]]:
        """What an answer surely has, as a token, and what it came from.

        Another module's projection may have lagged when it was asked, so that
        what it follows is left out; so is what the query's own had not reached.

        Args:
            asked: the queries that were asked on the way.
        """
        names = {operation.module.name, *(each.module_name for each in asked)}
        unknown = set(before.lags)
        for each in asked:
            module = self._modules[each.module_name]
            if each.spec.declaration.projections:
                unknown |= set(module.follows)
            if isinstance(each, RemoteOperation):
                # Whom it asked in turn is not known here: whoever it could.
                further = {n for asked in module.asks for n in reach_of(self._modules, asked)}
                names |= further
                unknown |= {name for one in further for name in self._modules[one].follows}
        names |= unknown | self._follows(operation)
        parts = [
            f"{name}.{self._epochs[name]}.{before.heads[name]}"
            for name in sorted(names - unknown)
            if name in before.heads
        ]
        if before.place is not None:
            parts.append(before.place)
        reach = (*sorted(names), *self._database())
        return ",".join(parts) or None, reach

    def _follows(self, operation: CompiledOperation) -> set[str]:
        """The modules whose events the query's own projections are kept from."""
        if not operation.spec.declaration.projections:
            return set()
        return set(self._modules[operation.module.name].follows)

    def _database(self) -> tuple[str, ...]:
        return () if self._replicas is None else (DATABASE + self._replicas.server,)

    async def _reached(self, module: str, projection: str, source: str, head: int) -> bool:
        progress = self._progress.get(module)
        return progress is not None and await progress.reached(projection, source, head)

    async def _place(self) -> str | None:
        replicas = self._replicas
        if replicas is None:
            return None
        try:
            place = await replicas.written()
        except StoreUnavailableError:
            return None
        return f"{DATABASE}{replicas.server}.{replicas.timeline}.{place}"
