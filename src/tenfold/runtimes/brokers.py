"""The broker of a topology, by its URL. A client's library is loaded only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.broker import Broker, BrokerSettings
from tenfold.runtimes.places import nearest

__all__ = ["open_broker"]


async def open_broker(settings: BrokerSettings) -> Broker:
    """The broker at `settings.url`; it connects when it is first used.

    Raises: UserMistakeError for a URL of no kind that is known, or that cannot be read, and
        where the client's library is not installed.
    """
    url = settings.url or ""
    scheme, separator, rest = url.partition("://")
    if not separator or not rest or scheme not in _KINDS:
        raise UserMistakeError(
            f"The broker's URL begins with {scheme + separator!r}, expected one of "
            f"{', '.join(f'{each}://' for each in _KINDS)}. {nearest(scheme, _KINDS)} Nothing was "
            "started. Correct `[topologies.X.broker] url`, or TENFOLD_BROKER_URL."
        )
    extra, make = _KINDS[scheme]
    try:
        if scheme != "kafka":  # which names several servers with a port each
            _ = urlsplit(url.partition(",")[0]).port
        return make(url, settings.timeout_s)
    except ValueError as error:
        raise UserMistakeError(
            f"The broker's URL cannot be read: {error}. Nothing was started. Expected "
            f"{scheme}://USER:PASSWORD@HOST:PORT."
        ) from error
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tenfold"):
            raise
        raise UserMistakeError(
            f"The broker at {scheme}:// needs {error.name}, which is not installed. Nothing was "
            f"started. `pip install 'tenfold[{extra}]'`."
        ) from error


def _nats(url: str, timeout_s: float) -> Broker:
    from tenfold.adapters.nats.broker import NatsBroker

    return NatsBroker(url, timeout_s=timeout_s)


def _kafka(url: str, timeout_s: float) -> Broker:
    from tenfold.adapters.kafka.broker import KafkaBroker

    return KafkaBroker(url, timeout_s=timeout_s)


def _rabbitmq(url: str, timeout_s: float) -> Broker:
    from tenfold.adapters.rabbitmq.broker import RabbitBroker

    return RabbitBroker(url, timeout_s=timeout_s)


_KINDS: dict[str, tuple[str, Callable[[str, float], Broker]]] = {
    "kafka": ("kafka", _kafka),
    "nats": ("nats", _nats),
    "tls": ("nats", _nats),
    "amqp": ("rabbitmq", _rabbitmq),
    "amqps": ("rabbitmq", _rabbitmq),
}
