"""The payments' handlers: record the intent, ask the provider, record what it said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import final
from uuid import UUID

from store.inventory.contract import StockReserved
from store.payments import rules, tables
from store.payments.contract import (
    Payment,
    PaymentCaptured,
    PaymentDeclined,
    PaymentNotFound,
    Payments,
    PaymentState,
)
from store.payments.provider import (
    Answer,
    Captured,
    Charge,
    Declined,
    PaymentProvider,
    ProviderSilentError,
)
from store.payments.settings import PaymentsSettings
from tenfold import (
    Database,
    Money,
    TenfoldError,
    call_key,
    job,
    now,
    publish,
    schedule,
    subscribe,
)

__all__ = ["LedgerPlaceError", "PaymentsModule", "provider_of"]

_log = logging.getLogger("store.payments")
_STRAGGLES_AFTER = timedelta(minutes=2)
_STRAGGLERS = 500


class LedgerPlaceError(TenfoldError):
    """The test provider's ledger cannot be kept where the settings say; nothing was started."""

    code = "payments.ledger_place"


@final
class PaymentsModule(Payments):
    """What was charged for which order.

    The charge happens at the provider's, so no transaction covers it. The
    intent is committed first, with the key; the job asks with that key; its
    unit of work records the answer, or `unknown`, and then asks again by the
    same key until there is one.
    """

    db: Database
    settings: PaymentsSettings

    async def started(self) -> None:
        """Open the way to the provider."""
        self._provider: PaymentProvider = provider_of(self.settings)

    async def stopping(self) -> None:
        """Close the way to the provider."""
        await self._provider.close()

    async def get_payment(self, order_id: UUID) -> Payment:
        """The payment of one order."""
        payment = await self.db.one(tables.GET_PAYMENT, order_id=order_id, into=Payment)
        if payment is None:
            raise PaymentNotFound(order_id=order_id)
        return payment

    async def captured_totals(self) -> list[Money]:
        """The sum of all that was captured, one amount for each currency."""
        return [row.amount for row in await self.db.all(tables.CAPTURED_TOTALS)]

    async def count_unsettled(self) -> int:
        """How many payments are neither captured nor declined."""
        count: int = await self.db.value(tables.COUNT_UNSETTLED)
        return count

    @subscribe
    async def intend(self, event: StockReserved) -> None:
        """Record that an order is to be charged, under which key, and have it done."""
        charge = Charge(
            key=call_key("charge"),
            order_id=event.order_id,
            customer_id=event.customer_id,
            amount=event.total,
        )
        await self.db.execute(
            tables.ADD_PAYMENT,
            order_id=charge.order_id,
            key=charge.key,
            customer_id=charge.customer_id,
            amount=charge.amount,
            state=PaymentState.INTENDED.value,
            asked=0,
            reference=None,
            reason=None,
            created_at=now(),
        )
        self.charge.enqueue(charge)

    @job(timeout_s=60)
    async def charge(self, charge: Charge) -> None:
        """Ask the provider to charge, and record what it says."""
        answers: Sequence[Answer] = ()
        try:
            answers = await self._provider.capture(charge)
        except ProviderSilentError as error:
            _warn(charge.order_id, error)
        await self._record(charge.order_id, answers)

    @job(timeout_s=60)
    async def ask_again(self, order_id: UUID) -> None:
        """Settle a payment whose outcome is not known, by the key of the first question."""
        await self._record(order_id, await self._find_out(order_id))

    @job(timeout_s=60)
    async def ask_straggler(self, order_id: UUID) -> None:
        """Ask about a payment that is open for long; after silence the schedule asks again.

        It begins no further questions as `ask_again` does: with one more begun
        each minute, a provider that is down for hours would be asked ever faster.
        """
        answers = await self._find_out(order_id)
        if answers:
            await self._record(order_id, answers)

    @schedule("* * * * *")
    async def settle_stragglers(self) -> None:
        """Ask again for payments that have been open for long, whatever became of their jobs."""
        rows = await self.db.all(
            tables.LIST_STRAGGLERS, before=now() - _STRAGGLES_AFTER, most=_STRAGGLERS
        )
        for row in rows:
            self.ask_straggler.with_(unique=str(row.order_id)).enqueue(row.order_id)

    async def _find_out(self, order_id: UUID) -> Sequence[Answer]:
        row = await self.db.outside.one(tables.GET_PAYMENT, order_id=order_id)
        if row is None or row.state in (PaymentState.CAPTURED, PaymentState.DECLINED):
            return ()
        charge = Charge(
            key=row.key, order_id=order_id, customer_id=row.customer_id, amount=row.amount
        )
        try:
            found = await self._provider.find(charge.key)
            # Not found may mean "not yet": the same key makes it safe to charge now.
            return await self._provider.capture(charge) if found is None else [found]
        except ProviderSilentError as error:
            _warn(order_id, error)
            return ()

    async def _record(self, order_id: UUID, answers: Sequence[Answer]) -> None:
        payment = await self.db.one(tables.GET_PAYMENT, order_id=order_id)
        if payment is None:
            return
        state = PaymentState(payment.state)
        stands = rules.answer_of(state, payment.reference, payment.reason)
        heard: Sequence[Answer | None] = answers or [None]
        for answer in heard:
            if rules.contradicts(stands, answer):
                _log.error(
                    "The payment provider contradicts its first answer for order %s, by which the "
                    "payment is %s. The first stands; see what the provider charged.",
                    order_id,
                    state.value,
                )
            settled = rules.decide_state(state, answer)
            if settled is None:
                continue
            state, stands = settled, answer
            if answer is None:
                await self._ask_later(order_id, payment.asked + 1)
            else:
                await self._settle(order_id, payment.amount, answer)

    async def _ask_later(self, order_id: UUID, asked: int) -> None:
        await self.db.execute(tables.MARK_SILENT, order_id=order_id)
        delay_s = rules.decide_delay_s(asked)
        self.ask_again.with_(delay_s=delay_s, unique=f"{order_id}:{asked}").enqueue(order_id)

    async def _settle(self, order_id: UUID, amount: Money, answer: Answer) -> None:
        captured = isinstance(answer, Captured)
        await self.db.execute(
            tables.SETTLE,
            order_id=order_id,
            state=(PaymentState.CAPTURED if captured else PaymentState.DECLINED).value,
            reference=answer.reference if isinstance(answer, Captured) else None,
            reason=answer.reason if isinstance(answer, Declined) else None,
        )
        if isinstance(answer, Captured):
            publish(PaymentCaptured(order_id=order_id, amount=amount))
        else:
            publish(PaymentDeclined(order_id=order_id, reason=answer.reason))


def _warn(order_id: UUID, error: ProviderSilentError) -> None:
    # Nothing of the customer is in it: only which order, and what the provider did.
    _log.warning(
        "The payment provider gave no answer for order %s (%s). It is asked again by the same key.",
        order_id,
        error,
    )


def provider_of(settings: PaymentsSettings) -> PaymentProvider:
    """The provider that the topology asks for; imports no other.

    Raises: ValueError where its settings cannot work; LedgerPlaceError where the
        test provider's ledger cannot be kept where they say.
    """
    if settings.provider == "http":
        from store.payments.http_provider import HttpProvider

        return HttpProvider(settings.url, settings.token, settings.timeout_s)
    from store.payments.testing_provider import TestProvider

    try:
        return TestProvider(settings.test, settings.test.ledger)
    except OSError as error:
        raise LedgerPlaceError(
            f"The test provider's ledger {settings.test.ledger} cannot be kept there: "
            f"{error.strerror}. Name another place under settings.payments.test.ledger."
        ) from error
