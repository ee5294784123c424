"""The checkout's handler: it asks six others, one after another."""

from __future__ import annotations

from uuid import UUID

from benchmarks.boutique.carts.contract import Carts
from benchmarks.boutique.catalog.contract import Catalog
from benchmarks.boutique.checkout import rules
from benchmarks.boutique.checkout.contract import CartEmpty, Checkout, Order, OrderLine
from benchmarks.boutique.currency.contract import Amount, Currencies
from benchmarks.boutique.emails.contract import Emails
from benchmarks.boutique.payments.contract import Card, Payments
from benchmarks.boutique.shipping.contract import Address, Shipping
from tenfold import new_id

__all__ = ["CheckoutModule"]


class CheckoutModule(Checkout):
    """Turns carts into orders, and keeps none of them."""

    carts: Carts
    catalog: Catalog
    currency: Currencies
    shipping: Shipping
    payments: Payments
    email: Emails

    async def place_order(
        self, user_id: str, currency: str, address: Address, email: str, card: Card
    ) -> Order:
        """Buy what is in a cart."""
        items = await self.carts.get_cart(user_id)
        if not items:
            raise CartEmpty(user_id=user_id)
        lines = []
        for item in items:
            product = await self.catalog.get_product(item.product_id)
            cost = await self.currency.convert(product.price, currency)
            lines.append(OrderLine(product_id=item.product_id, quantity=item.quantity, cost=cost))
        quote = await self.shipping.quote(address, items)
        shipping = await self.currency.convert(quote, currency)
        total = _total(currency, shipping, lines)
        order = Order(
            id=self._new_id(),
            transaction=await self.payments.charge(total, card),
            tracking=await self.shipping.ship(address, items),
            shipping=shipping,
            address=address,
            lines=lines,
            total=total,
        )
        await self.carts.empty_cart(user_id)
        await self.email.confirm(email, order)
        return order

    def _new_id(self) -> UUID:
        return new_id()


def _total(currency: str, shipping: Amount, lines: list[OrderLine]) -> Amount:
    costs = [(line.cost.units, line.cost.nanos, line.quantity) for line in lines]
    units, nanos = rules.add_up([(shipping.units, shipping.nanos, 1), *costs])
    return Amount(currency=currency, units=units, nanos=nanos)
