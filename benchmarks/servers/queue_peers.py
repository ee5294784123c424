"""The same job that does nothing, as Taskiq and Procrastinate have it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

__all__ = ["WATCH", "procrastinate_app", "taskiq_broker"]

WATCH: Any = SimpleNamespace(watch=None)


def taskiq_broker(url: str) -> tuple[Any, Any]:
    """A broker on Redis streams, which acknowledges what it has worked, and the task."""
    from taskiq_redis import RedisStreamBroker

    broker = RedisStreamBroker(url, consumer_id="0", xread_count=500)

    async def rest(number: int, key: str) -> None:
        WATCH.watch.note()

    return broker, broker.register_task(rest, task_name="rest")


def procrastinate_app(url: str) -> tuple[Any, Any]:
    """An app on PostgreSQL, and the task."""
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=20))

    async def rest(number: int) -> None:
        WATCH.watch.note()

    return app, app.task(name="rest")(rest)
