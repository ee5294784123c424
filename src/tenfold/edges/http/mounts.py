"""Mounts: other ASGI applications under a path prefix of the product, with their lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from tenfold.contracts.errors import ContractError, TenfoldError
from tenfold.edges.http.asgi import ASGIApp, Receive, Scope, Send
from tenfold.edges.http.seen import serve_seen

__all__ = ["DRAINING", "MountFailedError", "Mounts"]

DRAINING = "tenfold.draining"
"""In the state of a mount's requests: a function that says whether the product is stopping."""


class MountFailedError(TenfoldError):
    """A mounted application did not start, or failed while it was stopped."""

    code = "http.mount_failed"


class Mounts:
    """The mounted applications, the longest prefix first."""

    def __init__(
        self,
        mounts: Mapping[str, ASGIApp],
        draining: Callable[[], bool] = lambda: False,
        *,
        positions: bool = False,
    ) -> None:
        """Take the mounts.

        Args:
            draining: whether the product is stopping; each request's state has it as
                `tenfold.draining`, since an answer without an end must then end itself.
            positions: let their calls see what their clients have seen, by a cookie.
        Raises: ContractError for a prefix that does not begin with a slash, or ends with one.
        """
        for prefix in mounts:
            if prefix != "/" and (not prefix.startswith("/") or prefix.endswith("/")):
                raise ContractError(
                    f"The mount {prefix!r} has no usable prefix. Write it as '/', or as '/name' "
                    "without a slash at its end."
                )
        self._draining = draining
        self._positions = positions
        ordered = sorted(mounts.items(), key=lambda item: (-len(item[0]), item[0]))
        self._mounts = [
            ("" if prefix == "/" else prefix, app, _Lifespan(prefix, app))
            for prefix, app in ordered
        ]

    def find(self, path: str) -> tuple[str, ASGIApp, dict[str, Any]] | None:
        """The mount for a decoded path: its prefix, the application, and its lifespan's state."""
        for prefix, app, lifespan in self._mounts:
            if not prefix or path == prefix or path.startswith(prefix + "/"):
                return prefix, app, lifespan.state
        return None

    async def serve(self, scope: Scope, receive: Receive, send: Send, path: str) -> bool:
        """Hand a request to the mount that its path belongs to; False where there is none."""
        found = self.find(path)
        if found is None:
            return False
        prefix, app, state = found
        inner = dict(scope)
        inner["root_path"] = scope.get("root_path", "") + prefix
        inner["state"] = {**state, DRAINING: self._draining}
        if self._positions and scope["type"] == "http":
            await serve_seen(app, inner, receive, send)
        else:
            await app(inner, receive, send)
        return True

    async def start(self) -> None:
        """Start every mount, in order; those that know no lifespan need none.

        Raises: MountFailedError, after those that had started were stopped.
        """
        for at, (_, _, lifespan) in enumerate(self._mounts):
            try:
                await lifespan.start()
            except MountFailedError:
                for _, _, started in reversed(self._mounts[:at]):
                    await started.stop()
                raise

    async def stop(self) -> None:
        """Stop every mount, the last first. Raises: MountFailedError, when all have been asked."""
        failed: MountFailedError | None = None
        for _, _, lifespan in reversed(self._mounts):
            try:
                await lifespan.stop()
            except MountFailedError as error:
                failed = failed or error
        if failed is not None:
            raise failed


class _Lifespan:
    """The lifespan protocol of one mount, spoken from the server's side."""

    def __init__(self, prefix: str, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._prefix = prefix
        self._app = app
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._inbox.put_nowait({"type": "lifespan.startup"})
        message = await self._outbox.get()
        if message is None:
            # The application raised before it answered: it does not speak this protocol.
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        elif message["type"] == "lifespan.startup.failed":
            raise MountFailedError(
                f"The application mounted at {self._prefix!r} did not start: "
                f"{message.get('message') or 'it gave no reason'}."
            )

    async def stop(self) -> None:
        if self._task is None:
            return
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        message = await self._outbox.get()
        self._task = None
        if message is not None and message["type"] == "lifespan.shutdown.failed":
            raise MountFailedError(
                f"The application mounted at {self._prefix!r} failed while it stopped: "
                f"{message.get('message') or 'it gave no reason'}."
            )

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._inbox.get, self._outbox.put)
        finally:
            self._outbox.put_nowait(None)
