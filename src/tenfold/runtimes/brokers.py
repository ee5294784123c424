"""The broker of a topology, by its URL. A client's library is loaded only where it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.ports.broker import Broker, BrokerSettings
from tenfold.runtimes.places import nearest

__all__ = ["KINDS", "BrokerKind", "check_broker", "open_broker"]


def check_broker(settings: BrokerSettings) -> None:
    """Refuse a URL that no broker can be opened by, as far as that is known without connecting.

    Raises: UserMistakeError for a URL of no kind that is known, or that cannot be read.
    """
    url = settings.url or ""
    scheme, separator, rest = url.partition("://")
    if not separator or not rest or scheme not in KINDS:
        found = f"begins with {scheme}://" if separator else "has no ://"
        raise UserMistakeError(
            f"The broker's URL {found}, expected one of "
            f"{', '.join(f'{each}://' for each in KINDS)}. "
            f"{nearest(scheme, KINDS) if separator else ''} Nothing was started. Correct "
            "`[topologies.X.broker] url`, or TENFOLD_BROKER_URL."
        )
    try:
        if scheme != "kafka":  # which names several servers with a port each
            _ = urlsplit(url.partition(",")[0]).port
    except ValueError as error:
        raise UserMistakeError(
            f"The broker's URL cannot be read: {error}. Nothing was started. Expected "
            f"{scheme}://USER:PASSWORD@HOST:PORT."
        ) from error


def open_broker(settings: BrokerSettings) -> Broker:
    """The broker at `settings.url`; it connects when it is first used.

    Raises: UserMistakeError as `check_broker`, and where the client's library is not installed.
    """
    check_broker(settings)
    url = settings.url or ""
    kind = KINDS[url.partition("://")[0]]
    try:
        return kind.make(url, settings.timeout_s)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tenfold"):
            raise
        raise UserMistakeError(
            f"The broker, {kind.name}, needs {error.name}, which is not installed. Nothing was "
            f"started. `pip install 'tenfold[{kind.extra}]'`."
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


class BrokerKind(Struct):
    """What a URL's scheme means: the broker's name for people, its extra, and what makes it."""

    name: str
    extra: str
    make: Callable[[str, float], Broker]


_NATS = BrokerKind(name="NATS JetStream", extra="nats", make=_nats)
_RABBITMQ = BrokerKind(name="RabbitMQ", extra="rabbitmq", make=_rabbitmq)
KINDS: Final[dict[str, BrokerKind]] = {
    "kafka": BrokerKind(name="Kafka", extra="kafka", make=_kafka),
    "nats": _NATS,
    "tls": _NATS,
    "amqp": _RABBITMQ,
    "amqps": _RABBITMQ,
}
