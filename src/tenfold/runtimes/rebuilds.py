"""The rebuilds that run in this process: begun, awaited, begun anew, and stopped with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from tenfold.contracts.errors import OverloadedError
from tenfold.path.attempts import error_text
from tenfold.path.projection import Projections, RebuildProgress, UnknownProjectionError

__all__ = ["Rebuilds"]

_log = structlog.get_logger("tenfold.host")


class Rebuilds:
    """At most one rebuild of each projection.

    Args:
        projections: those of each module, by its name.
    """

    def __init__(self, projections: Mapping[str, Projections]) -> None:
        self._projections = projections
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._begun: dict[tuple[str, str], asyncio.Future[int]] = {}

    async def begin(
        self, module: str, name: str, *, anew: bool = False, partial: bool = False
    ) -> int:
        """Begin one, or go on with it. See `Host.rebuild`."""
        projections = self._projections.get(module)
        if projections is None:
            raise UnknownProjectionError(
                f"Module {module!r} has no projections, or there is no such module."
            )
        key = (module, name)
        running = self._tasks.get(key)
        if running is not None and not running.done():
            if not anew:
                return await asyncio.shield(self._begun[key])
            running.cancel()
            await asyncio.wait([running])
        self._begun[key] = begun = asyncio.get_running_loop().create_future()
        work = _rebuild(projections, (module, name), begun, resume=not anew, partial=partial)
        self._tasks[key] = asyncio.create_task(work, name=f"rebuild {module}.{name}")
        return await asyncio.shield(begun)

    async def go_on(self, module: str, name: str) -> None:
        """Begin one at the start. A failure keeps nobody from starting: the old one serves."""
        try:
            await self.begin(module, name)
        except Exception as error:  # whatever SQLite or a module's code says of its tables
            _log_failed(module, name, error)

    async def ended(self, module: str, name: str) -> None:
        """Return when the rebuild of a projection has ended, if one runs."""
        running = self._tasks.get((module, name))
        if running is not None:
            await asyncio.wait([running])

    async def stop(self) -> None:
        """Cut all of them short: each goes on at the next start."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


async def _rebuild(
    projections: Projections,
    key: tuple[str, str],
    begun: asyncio.Future[int],
    *,
    resume: bool,
    partial: bool,
) -> None:
    """Rebuild one; `begun` is answered in any case."""
    module, name = key

    def progress(seen: RebuildProgress) -> None:
        if not begun.done():
            begun.set_result(seen.generation)

    try:
        await projections.rebuild(name, progress, resume=resume, partial=partial)
    except asyncio.CancelledError:
        if not begun.done():
            begun.set_exception(
                OverloadedError(
                    f"The rebuild of {module}.{name} was cut short before it began, since the "
                    "product stops or another one was asked for. Nothing was done. Ask again."
                )
            )
            begun.exception()  # whoever asked may be gone
        raise
    except Exception as error:  # also what SQLite or a module's code says of its tables
        if begun.done():
            _log_failed(module, name, error)
        else:
            begun.set_exception(error)


def _log_failed(module: str, name: str, error: Exception) -> None:
    _log.error("rebuild_failed", module=module, projection=name, error=error_text(error))
