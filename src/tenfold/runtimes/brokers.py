"""Placeholder until the adapters come."""

from __future__ import annotations

from tenfold.ports.broker import Broker, BrokerSettings

__all__ = ["open_broker"]


async def open_broker(settings: BrokerSettings) -> Broker:
    """The broker at a URL."""
    raise NotImplementedError(settings.url)
