"""The shop's own small catalogue, put on sale at the first start."""

from __future__ import annotations

from decimal import Decimal

from store.catalog.contract import Catalog, NewProduct
from store.inventory.contract import Delivery, Inventory, Received
from tenfold import Money

__all__ = ["seed"]

_SHELF = (
    ("OAK-LAMP", "Oak and linen table lamp", "64.00", 40),
    ("WOOL-THROW", "Welsh wool throw, heather", "89.00", 25),
    ("MUG-SPECKLE", "Speckled stoneware mug", "14.50", 240),
    ("TEAPOT-IRON", "Cast iron teapot, 0.8 litre", "42.00", 60),
    ("CANDLE-FIG", "Fig and cedar candle", "18.00", 180),
    ("CANDLE-SEA", "Sea salt candle", "18.00", 160),
    ("BOARD-WALNUT", "Walnut chopping board", "36.00", 70),
    ("KNIFE-BREAD", "Bread knife, olive wood handle", "29.50", 55),
    ("BOWL-NEST", "Nesting bowls, set of four", "32.00", 80),
    ("LINEN-NAPKIN", "Washed linen napkins, set of six", "38.00", 90),
    ("APRON-DENIM", "Denim apron with leather ties", "34.00", 65),
    ("JAR-PANTRY", "Pantry jar with cork lid", "9.50", 300),
    ("CLOCK-WALL", "Beech wall clock", "48.00", 35),
    ("MIRROR-ROUND", "Round brass mirror, 40 cm", "75.00", 20),
    ("VASE-REEDED", "Reeded glass vase", "22.00", 110),
    ("PLANTER-CLAY", "Terracotta planter with saucer", "12.00", 150),
    ("WATERING-CAN", "Copper watering can", "27.00", 45),
    ("NOTEBOOK-DOT", "Dotted notebook, cloth bound", "11.00", 400),
    ("PEN-BRASS", "Brass ballpoint pen", "24.00", 120),
    ("TOTE-CANVAS", "Waxed canvas tote bag", "58.00", 50),
    ("PUZZLE-MAP", "Wooden map puzzle, 500 pieces", "26.00", 75),
    ("BLOCKS-ALPHA", "Alphabet blocks, lime wood", "31.00", 60),
    ("SOCKS-MERINO", "Merino walking socks", "16.00", 220),
    ("HONEY-HEATHER", "Heather honey, 340 g", "8.75", 260),
)


async def seed(catalog: Catalog, inventory: Inventory) -> None:
    """Put the catalogue on sale with its stock; run again, it changes nothing."""
    products = await catalog.add_products(
        [
            NewProduct(sku=sku, name=name, price=Money(amount=Decimal(price), currency="GBP"))
            for sku, name, price, _ in _SHELF
        ]
    )
    pieces = {sku: quantity for sku, _, _, quantity in _SHELF}
    await inventory.receive_deliveries(
        [
            Delivery(
                delivery_no="opening-stock",
                items=[
                    Received(product_id=product.id, quantity=pieces[product.sku])
                    for product in products
                ],
            )
        ]
    )
