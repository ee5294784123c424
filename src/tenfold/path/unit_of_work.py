"""What a handler hands over to its unit of work: events and jobs; and what it may ask."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from tenfold.contracts.envelope import Principal
from tenfold.contracts.structs import Event
from tenfold.path.declare import EnqueueOptions, Job
from tenfold.ports.unit import current_message

__all__ = ["call_key", "enqueue", "new_id", "now", "principal", "publish"]


def publish(event: Event) -> None:
    """Publish an event with the commit of the present unit of work.

    The event belongs to the module that handles the message. It is delivered
    to every subscriber at least once and has its effect there once, in the
    order of its key.

    Raises: OutOfUnitOfWorkError in a query; ContractError for an event that the
    module's contract file does not declare; InvalidArgumentsError (NOT_DONE).
    """
    message = current_message()
    message.host.publish(message, event)


def enqueue(job: Job[...], options: EnqueueOptions, args: Any, kwargs: Any) -> str:
    """Enqueue a job with the commit of the present unit of work. See `BoundJob.enqueue`."""
    message = current_message()
    made: str = message.host.enqueue(message, job, options, args, kwargs)
    return made


def now() -> datetime:
    """The present moment in UTC, by the platform's clock, which tests can hold."""
    moment: datetime = current_message().host.clock.now()
    return moment


def new_id() -> UUID:
    """A new identifier: a UUID of version 7, so that later ones sort after earlier ones."""
    made: UUID = current_message().host.ids.uuid()
    return made


def principal() -> Principal:
    """Who acts in the message being handled."""
    return current_message().envelope.principal


def call_key(step: str) -> str:
    """A key for an outside effect of this handler: the same whenever its message is run again.

    Args:
        step: what tells this effect from the handler's others.
    """
    envelope = current_message().envelope
    return f"{envelope.id}:{envelope.target}:{step}"
