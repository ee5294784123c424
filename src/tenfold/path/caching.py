"""Admit: kept answers, in two tiers, computed once however many ask.

    caller ── first tier (this process) ── shared tier (Valkey) ── lease ── handler

A miss is filled in a task of its own, which everybody awaits who asks for the
same: it does not end with whoever happened to ask first. It reads from the
primary and past every cache, so that what is kept is never older than the
moment at which it was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from tenfold.contracts.caching import TagTemplate
from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import Envelope, Principal
from tenfold.path.cache_counts import CacheCounts
from tenfold.path.filling import Fill, Filled, Filler, FillParts
from tenfold.path.fills import FillPositions
from tenfold.path.kept import Kept, Life, Shown, Trail, decide_covered, decide_early, decide_use
from tenfold.path.operations import CompiledOperation
from tenfold.path.positions import read_token
from tenfold.ports.cache import Cache, CacheUnavailableError, FirstTier, Found, Slot
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.unit import Message

__all__ = ["CachedQuery", "Caching", "tag_name"]

_encode = msgspec.msgpack.Encoder(order="sorted").encode
_decode_kept = msgspec.msgpack.Decoder(Kept).decode


def tag_name(tenant: str, module: str, tag: str) -> str:
    """A tag as the cache and a CDN know it: one tenant's and one module's."""
    return f"{tenant}/{module}/{tag}"


class Caching:
    """The kept answers of a product in this process. Implements `Follower` for the first tier."""

    def __init__(
        self,
        near: FirstTier,
        far: Cache | None,
        positions: FillPositions,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """Bring the tiers together; nothing is kept before `start`.

        Args:
            near: the first tier.
            far: the tier that processes share; None where this one is alone.
        """
        self.near = near
        self.far = far
        self._clock = clock
        self._ids = ids
        self._positions = positions
        self._live = far is None
        self.queries: dict[str, CachedQuery] = {}
        self._filler = Filler(FillParts(near, far, positions, self._is_live))

    def attach(self, operations: Mapping[str, CompiledOperation]) -> None:
        """Let every query that declares it answer from here; the others stay as they are."""
        for target, operation in operations.items():
            if operation.is_query and operation.spec.declaration.cache_s is not None:
                query = CachedQuery(self, operation)
                self.queries[target] = operation.cached = query

    async def start(self) -> None:
        """Follow what other processes drop."""
        if self.far is not None:
            await self.far.follow(self)

    async def stop(self) -> None:
        """End every fill that runs, and close the tiers."""
        await self._filler.stop()
        self.near.clear_nowait()
        if self.far is not None:
            await self.far.close()

    @property
    def first_tier_live(self) -> bool:
        """Whether the first tier is used: it is not while invalidations could be missed."""
        return self._live

    def drop(self, tags: Sequence[str]) -> None:
        """Drop these tags in this process, fills that run included."""
        self.near.drop_nowait(tags)
        self._filler.part(tags)

    def invalidated(self, tags: Sequence[str]) -> None:
        """Another process has dropped these tags. See `Follower.invalidated`."""
        self.drop(tags)

    def live(self) -> None:
        """Every invalidation is told again. See `Follower.live`."""
        self.near.clear_nowait()
        self._filler.part_all()
        self._live = True

    def lost(self) -> None:
        """Invalidations may be missed: the first tier is off. See `Follower.lost`."""
        self._live = False
        self.near.clear_nowait()

    def counts(self) -> dict[str, CacheCounts]:
        """What has been counted since the start, by operation."""
        return {target: query.counts for target, query in self.queries.items()}

    def _is_live(self) -> bool:
        return self._live

    def find(self, slot: Slot) -> Found | None:
        """What the first tier has, while it is live."""
        return self.near.find_nowait(slot.key) if self._live else None

    async def confirm(self, slot: Slot) -> Found | None:
        """What the tier has in which a drop shows at once to everybody; None where it is away."""
        if self.far is None:
            return self.find(slot)
        try:
            return (await self.far.find([slot]))[0]
        except CacheUnavailableError:
            return None

    def throw(self) -> float:
        """A random number in [0, 1)."""
        return self._ids.uniform()

    @property
    def begun(self) -> int:
        """How many fills have begun so far."""
        return self._filler.begun

    def fill(self, fill: Fill, *, since: int | None = None) -> tuple[asyncio.Future[Filled], bool]:
        """The fill of this slot that runs, or a new one. See `Filler.run`."""
        return self._filler.run(fill, since=since)

    def prefix(self, module: str) -> tuple[str, int]:
        """What tells a database's present history from those before it."""
        return self._positions.epoch(module), self._positions.history


class CachedQuery:
    """One query whose answers are kept; compiled at start."""

    __slots__ = (
        "_caching",
        "_decode",
        "_everyone",
        "_fingerprint",
        "_module",
        "_nobody",
        "_operation",
        "_tags",
        "counts",
        "life",
        "target",
    )

    def __init__(self, caching: Caching, operation: CompiledOperation) -> None:
        spec = operation.spec
        said = spec.declaration
        self._caching = caching
        self._operation = operation
        self._module = operation.module.name
        self._everyone = said.cache_for == "everyone"
        # Whoever asks first must not show in what all are answered.
        granted = () if said.who in ("anyone", "internal") else (said.who,)
        self._nobody = Principal(id="anonymous", permissions=granted)
        self._tags = tuple(TagTemplate(text, operation.target) for text in said.tags)
        self._decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(spec.result).decode
        self._fingerprint = fingerprint_of(spec)
        self.target = operation.target
        self.life = Life(said.cache_s or 0.0, said.stale_if_error_s)
        self.counts = CacheCounts()

    async def answer(self, message: Message, arguments: msgspec.Struct) -> Any:
        """The answer to one question that is not asked for a decision. See `Answers.answer`."""
        slot = self.slot(message.envelope, arguments)
        found = self._caching.find(slot)
        if found is not None and decide_use(self.life, found.left_s) == "fresh":
            kept = _decode_kept(found.value)
            verdict = decide_covered(kept, seen_by(message))
            if verdict == "covered":
                self.counts.first += 1
                if decide_early(self.life, found.left_s, kept.cost_s, self._caching.throw()):
                    self._refresh(message, slot, arguments, kept, found.left_s)
                return self._hand(message, slot, kept, found.left_s)
            if verdict == "place":
                return await self._by_place(message, slot, arguments, self._caching.begun)
            self.counts.passed += 1
        return await self._wait(message, slot, arguments)

    async def _wait(self, message: Message, slot: Slot, arguments: msgspec.Struct) -> Any:
        """Await the fill that runs, or a new one; then another if it is too old for the caller."""
        since = self._caching.begun
        fill = self._fill(message, slot, arguments)
        running, new = self._caching.fill(fill)
        filled = await asyncio.shield(running)
        verdict = "covered" if filled.stale else decide_covered(filled.kept, seen_by(message))
        if verdict == "place" and not (new and self._tags):
            return await self._by_place(message, slot, arguments, since)
        if verdict == "older":
            running, _ = self._caching.fill(fill, since=since)
            filled = await asyncio.shield(running)
        return self._hand(message, slot, filled.kept, filled.left_s)

    async def _by_place(
        self, message: Message, slot: Slot, arguments: msgspec.Struct, since: int
    ) -> Any:
        """Answer a caller who has seen a later state of the database than the kept answer.

        That state may differ in anything. An answer with tags is dropped by
        whatever changes it, before who changed it is answered: that it is still in
        the shared tier proves that nothing the caller did is missing. Without
        tags there is no such proof, and the answer is passed by.
        """
        if not self._tags:
            self.counts.passed += 1
            return await self._operation.answer(message, arguments, past=True)
        found = await self._caching.confirm(slot)
        if found is not None and decide_use(self.life, found.left_s) == "fresh":
            kept = _decode_kept(found.value)
            if decide_covered(kept, seen_by(message)) != "older":
                self.counts.confirmed += 1
                return self._hand(message, slot, kept, found.left_s)
        running, _ = self._caching.fill(self._fill(message, slot, arguments), since=since)
        filled = await asyncio.shield(running)
        return self._hand(message, slot, filled.kept, filled.left_s)

    def _refresh(
        self, message: Message, slot: Slot, arguments: Any, kept: Kept, left_s: float
    ) -> None:
        """Begin to compute anew, while the present answer is still given."""
        fill = self._fill(message, slot, arguments)
        fill.early_left_s = left_s
        fill.rank = kept.rank
        self._caching.fill(fill)

    def _fill(self, message: Message, slot: Slot, arguments: msgspec.Struct) -> Fill:
        envelope = message.envelope
        if self._everyone:
            envelope = msgspec.structs.replace(envelope, principal=self._nobody)
        fill = Fill(
            operation=self._operation,
            envelope=envelope,
            arguments=arguments,
            slot=slot,
            token=seen_by(message),
            life=self.life,
            counts=self.counts,
        )
        if fill.token is not None:
            fill.rank = rank_of(fill.token, self._module)
        return fill

    def _hand(self, message: Message, slot: Slot, kept: Kept, left_s: float) -> Any:
        """Decode an answer for one caller, who shares it with nobody."""
        trail: Trail | None = message.trail
        if trail is None:
            trail = message.trail = Trail(None)
        age_s = max(self.life.keep_s - left_s, 0.0)
        shown = Shown(
            target=self.target, age_s=age_s, left_s=left_s - self.life.stale_s, tags=slot.tags
        )
        trail.show(kept.shows, shown)
        return self._decode(kept.value)

    def slot(self, envelope: Envelope, arguments: msgspec.Struct) -> Slot:
        """Where the answer to one question is kept: by tenant, by principal, by arguments."""
        principal = envelope.principal
        who = None if self._everyone else (principal.id, principal.permissions)
        text = _encode(
            (
                self._fingerprint,
                self._caching.prefix(self._module),
                envelope.tenant,
                who,
                arguments,
            )
        )
        tenant, module = envelope.tenant, self._module
        return Slot(
            key=blake2b(text, digest_size=16).digest(),
            tags=tuple(tag_name(tenant, module, tag.fill(arguments)) for tag in self._tags),
        )


def seen_by(message: Message) -> str | None:
    """The token of whoever asks; None where it came without."""
    trail: Trail | None = message.trail
    return None if trail is None else trail.token


def rank_of(token: str, module: str) -> int:
    """How far a caller has seen a module's log; 0 where it has not."""
    return read_token(token).get(module, ("", 0))[1]


def fingerprint_of(spec: OperationSpec) -> bytes:
    """What tells one version of a query's contract from another, the same in every process."""
    said = spec.declaration
    try:
        shape = msgspec.json.encode(
            msgspec.json.schema_components([spec.result, spec.arguments], schema_hook=_opaque),
            order="deterministic",
        )
    except TypeError:  # a type that no schema can tell of is told by its name
        shape = repr((spec.result, spec.arguments)).encode()
    rest = _encode([spec.contract, spec.name, said.cache_s, said.stale_if_error_s, said.tags])
    return blake2b(shape + rest, digest_size=8).digest()


def _opaque(kind: type) -> dict[str, Any]:
    return {"title": kind.__qualname__}
