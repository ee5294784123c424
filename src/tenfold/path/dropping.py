"""After the commit: the kept answers that it made wrong are dropped, at once and durably.

At once, so that who wrote reads what was written: in this process, then in the
shared tier, which tells the other processes. Durably, since this process may die
between its commit and that: a command's unit of work holds a queue entry that
drops the same tags, and each event that drops tags has a subscription that does.
Whichever comes second finds its reason known and does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tenfold.contracts.caching import TagTemplate, event_tags
from tenfold.contracts.contract import ContractSpec
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Event, Struct
from tenfold.path.background import HandlerSpec
from tenfold.path.caching import Caching, tag_name
from tenfold.path.declare import Background
from tenfold.path.module import ModuleRuntime, StoredEnvelope
from tenfold.ports.cache import CacheUnavailableError, Purger
from tenfold.ports.records import QueueEntry
from tenfold.ports.unit import Message, Unit, current_message

__all__ = ["Drop", "Drops", "ModuleDrops", "drop_handlers"]

_log = logging.getLogger("tenfold.path")
_JOB = "cache-drop"
_BACKGROUND = Background(attempts=40, timeout_s=30.0, backoff_s=0.1, priority=50)
_REMEMBERED = 10_000
_MOST_AT_ONCE = 500
_Rules = list[tuple[str, tuple[TagTemplate, ...]]]


class Drop(Struct):
    """The payload of the queue entry that a command's unit of work holds: tags in full."""

    tags: tuple[str, ...]


def drop_handlers(contract: ContractSpec) -> list[HandlerSpec]:
    """The background handlers of a module that drop kept answers; none where it keeps none.

    Their names have a dash, so that no method of the module's can have them.
    """
    said = [operation.declaration for operation in contract.operations.values()]
    events = {event.__name__: event for each in said for event in each.invalidated_by}
    found = [
        HandlerSpec(
            name=f"cache-{name}",
            kind=Kind.EVENT,
            background=_BACKGROUND,
            payload=event,
            method=_drop_by_event,
            start="now",
        )
        for name, event in events.items()
    ]
    if any(each.invalidates for each in said):
        found.append(
            HandlerSpec(
                name=_JOB, kind=Kind.JOB, background=_BACKGROUND, payload=Drop, method=_drop_by_job
            )
        )
    return found


async def _drop_by_event(_: Any, event: Event) -> None:
    message = current_message()
    drops: Drops | None = message.host.drops
    if drops is not None:
        module = message.host.name
        tenant = message.envelope.tenant
        tags = drops.tags_of(event, tenant, only=module)
        await drops.drop_durably(tags, _event_reason(message.envelope.id, module))


async def _drop_by_job(_: Any, tags: tuple[str, ...]) -> None:
    message = current_message()
    drops: Drops | None = message.host.drops
    if drops is not None:
        await drops.drop_durably(tags, message.envelope.id)


def _event_reason(message_id: str, module: str) -> str:
    # Each module's own: it drops its own tags, and must not take another's drop for its own.
    return f"event:{message_id}:{module}"


class Drops:
    """What is dropped by which event, for all modules of a process."""

    def __init__(
        self, caching: Caching, purger: Purger | None, contracts: Mapping[str, ContractSpec]
    ) -> None:
        """Read every query's `invalidated_by`.

        Args:
            contracts: of every module of the product, by the module's name.
        """
        self._caching = caching
        self._purger = purger
        self._rules: dict[type[Event], _Rules] = {}
        self._given: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.told = 0
        """Commits whose tags were dropped at once."""
        self.left = 0
        """Of those, commits whose tags the shared tier did not take; the queue drops them later."""
        for module, contract in contracts.items():
            for operation in contract.operations.values():
                said = operation.declaration
                tags = tuple(TagTemplate(text, operation.name) for text in said.tags)
                for event in said.invalidated_by:
                    rule = (module, event_tags(tags, event.__struct_fields__))
                    self._rules.setdefault(event, []).append(rule)

    @property
    def outlives(self) -> bool:
        """Whether what is kept outlives this process, so that its drop must too."""
        return self._caching.far is not None or self._purger is not None

    def drops(self, event: type[Event]) -> bool:
        """Whether an event drops anything."""
        return event in self._rules

    def tags_of(self, event: Event, tenant: str, *, only: str | None = None) -> list[str]:
        """What an event drops, in full, each once.

        Args:
            only: the module whose kept answers are meant; all modules' if None.
        """
        found: dict[str, None] = {}
        for module, templates in self._rules.get(type(event), ()):
            if only in (None, module):
                for template in templates:
                    found[tag_name(tenant, module, template.fill(event))] = None
        return list(found)

    def reasons_of(self, event: Event, message_id: str) -> list[str]:
        """Under which reasons the modules drop what this event makes wrong."""
        modules = dict.fromkeys(module for module, _ in self._rules.get(type(event), ()))
        return [_event_reason(message_id, module) for module in modules]

    async def drop(self, tags: Iterable[str], reasons: Sequence[str]) -> None:
        """Drop tags after a commit, and return when others know, or cannot be told in time."""
        wanted = list(dict.fromkeys(tags))
        self._caching.drop(wanted)
        self.told += 1
        if self._caching.far is None:
            self._remember(reasons)
            return
        # A task of its own: whoever waits for the reply may go away, and the commit stands.
        task = asyncio.get_running_loop().create_task(self._tell(wanted, reasons))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait((task,))

    async def drop_durably(self, tags: Sequence[str], reason: str) -> None:
        """Drop tags from the queue, which tries again where this fails.

        Raises: CacheUnavailableError, PurgeFailedError (NOT_DONE).
        """
        if not tags:
            return
        far = self._caching.far
        if reason not in self._given:
            self._caching.drop(tags)
            if far is not None and await far.invalidate(tags, (reason,)):
                self._caching.drop(tags)
        if self._purger is not None:
            await self._purger.purge(tags)

    async def _tell(self, tags: Sequence[str], reasons: Sequence[str]) -> None:
        far = self._caching.far
        assert far is not None
        try:
            for at in range(0, len(tags), _MOST_AT_ONCE):
                last = at + _MOST_AT_ONCE >= len(tags)
                await far.invalidate(tags[at : at + _MOST_AT_ONCE], reasons if last else ())
        except CacheUnavailableError as error:
            self.left += 1
            _log.warning("Kept answers could not be dropped at once; the queue will. %s", error)
        else:
            # Not before: the queue may come meanwhile, and must not leave it to what then fails.
            self._remember(reasons)
        finally:
            # Between the first drop and now the shared tier still had the old answers, and
            # somebody here may have fetched one.
            self._caching.drop(tags)

    def _remember(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            self._given[reason] = None
        while len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)


class ModuleDrops:
    """What one command, or the background work of one module, drops. Implements `Dropping`."""

    __slots__ = ("_decode", "_decoders", "_drops", "_module", "_tags")

    def __init__(self, drops: Drops, module: ModuleRuntime, invalidates: Sequence[str]) -> None:
        self._drops = drops
        self._module = module
        self._tags = tuple(TagTemplate(text, module.name) for text in invalidates)
        self._decode = msgspec.msgpack.Decoder(StoredEnvelope).decode
        self._decoders = {
            f"{module.name}.{name}": msgspec.msgpack.Decoder(event).decode
            for name, event in module.contract.events.items()
            if drops.drops(event)
        }

    @property
    def needed(self) -> bool:
        """Whether anything can be dropped here at all."""
        return bool(self._tags or self._decoders)

    def prepare(self, message: Message, arguments: Any, unit: Unit) -> None:
        """Let the unit of work hold the entry that drops its tags. See `Dropping.prepare`."""
        if not self._tags or not self._drops.outlives:
            return
        module = self._module
        payload = Drop(tags=self._fill(message, arguments))
        envelope = module.new_envelope(message, Kind.JOB, f"{module.name}.{_JOB}", payload)
        unit.entries.append(
            QueueEntry(
                message_id=envelope.id,
                handler=_JOB,
                tenant=envelope.tenant,
                body=msgspec.msgpack.encode(envelope),
                priority=_BACKGROUND.priority,
            )
        )

    async def committed(self, message: Message, arguments: Any, unit: Unit) -> None:
        """Drop what the commit made wrong. See `Dropping.committed`."""
        tags: list[str] = []
        reasons: list[str] = []
        if self._tags:
            tags += self._fill(message, arguments)
            reasons += [e.message_id for e in unit.entries if e.handler == _JOB]
        for record in unit.events:
            decode = self._decoders.get(record.name)
            if decode is not None:
                event = decode(self._decode(record.body).payload)
                tags += self._drops.tags_of(event, record.tenant)
                reasons += self._drops.reasons_of(event, record.message_id)
        if tags:
            await self._drops.drop(tags, reasons)

    def _fill(self, message: Message, arguments: Any) -> tuple[str, ...]:
        tenant = message.envelope.tenant
        return tuple(tag_name(tenant, self._module.name, t.fill(arguments)) for t in self._tags)
