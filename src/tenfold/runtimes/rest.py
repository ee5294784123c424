"""Whether a product has come to rest, as its databases tell: for whoever does not do the work."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.contracts.operations import Kind
from tenfold.path.module import ModuleRuntime

__all__ = ["count_undelivered", "source_of", "wait_for_rest"]

_EVENTS_SEEN: Final = 1_000
_LAST: Final = 2**63 - 1
_FIRST_LOOK_S: Final = 0.005
_LOOK_S: Final = 0.1


async def wait_for_rest(
    modules: Mapping[str, ModuleRuntime], besides: Collection[str] = ()
) -> None:
    """Return when every event is delivered and nothing in any queue is due or running.

    Looked for with growing pauses, since what other processes do cannot be awaited.

    Args:
        besides: modules whose queues nobody works, and which are not waited for.
    """
    pause_s = _FIRST_LOOK_S
    while not await _rests(modules, besides):
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LOOK_S)


async def _rests(modules: Mapping[str, ModuleRuntime], besides: Collection[str]) -> bool:
    # Queues are looked at after the logs that feed them: what is delivered in between is seen.
    for runtime in modules.values():
        if await count_undelivered(modules, runtime, most=1):
            return False
    for runtime in modules.values():
        if runtime.name not in besides and not await _is_idle(runtime):
            return False
    # What a queue's work has published meanwhile is in a log again.
    for runtime in modules.values():
        if await count_undelivered(modules, runtime, most=1):
            return False
    return True


async def _is_idle(runtime: ModuleRuntime) -> bool:
    """Whether nothing can be claimed and nothing runs; what waits for its lane is neither.

    Behind an entry that is tried again later its lane's others are due, and cannot be claimed.
    """
    due = await runtime.queue.next_due()
    if due is not None and due <= runtime.clock.now():
        return False
    counts = await runtime.queue.counts()
    return not any(states.get("running") for states in counts.values())


async def count_undelivered(
    modules: Mapping[str, ModuleRuntime],
    runtime: ModuleRuntime,
    prefix: str = "",
    generation: int | None = None,
    most: int = _EVENTS_SEEN,
) -> int:
    """Events that a module's subscriptions have not been given yet, from all sources.

    Args:
        prefix: of the handlers that are meant, such as a projection's.
        generation: of a projection; every one if None.
        most: where counting stops, for each source.
    """
    positions = await runtime.queue.positions()
    wanted: dict[str, dict[str, int]] = {}
    for handler in runtime.handlers.values():
        if handler.kind is not Kind.EVENT or not handler.name.startswith(prefix):
            continue
        source, event = source_of(modules, handler.payload)
        reached = [
            position
            for key, position in positions.items()
            if key.handler == handler.name
            and key.source == source
            and (generation is None or key.generation == generation)
        ]
        events = wanted.setdefault(source, {})
        events[event] = min([*reached, *([events[event]] if event in events else [])], default=0)
    count = 0
    for source, events in wanted.items():
        places: dict[int, list[str]] = {}
        for event, position in events.items():
            places.setdefault(position, []).append(event)
        for position, names in places.items():
            outbox = modules[source].outbox
            count += await outbox.count(sorted(names), position, _LAST, most)
    return count


def source_of(modules: Mapping[str, ModuleRuntime], event: type[msgspec.Struct]) -> tuple[str, str]:
    """The module that publishes an event, and the event's full name."""
    for name, runtime in modules.items():
        if runtime.contract.events.get(event.__name__) is event:
            return name, f"{name}.{event.__name__}"
    raise InvalidArgumentsError(f"No module of this product publishes {event.__name__}.")
