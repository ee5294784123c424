"""The nine products: id, name, description, price in cents of a dollar, categories."""

from __future__ import annotations

__all__ = ["GOODS", "picture_of"]

GOODS: list[tuple[str, str, str, int, list[str]]] = [
    ("1CANDLE001", "Candle holder", "A holder of brass for three candles.", 1899, ["home"]),
    ("2BAMBOO002", "Bamboo jar", "A jar with a lid that keeps air out.", 549, ["kitchen"]),
    ("3TEAPOT003", "Iron teapot", "Cast iron, 0.8 litre, with a strainer.", 4200, ["kitchen"]),
    ("4LOAFER004", "Loafers", "Leather shoes for days without rain.", 8999, ["footwear"]),
    ("5SHADES005", "Sunglasses", "Dark glasses that fit most faces.", 1999, ["accessories"]),
    ("6SHIRTS006", "Tank top", "Cotton, dyed in the thread.", 1899, ["clothing", "tops"]),
    ("7WATCHR007", "Watch", "Steel, wound by the arm that wears it.", 10999, ["accessories"]),
    ("8DRYERS008", "Hairdryer", "Two speeds and a cool breeze.", 2499, ["hair", "beauty"]),
    ("9MUGRED009", "Mug", "Stoneware, red inside and out.", 899, ["kitchen"]),
]


def picture_of(product_id: str) -> str:
    """Where the picture of a product is."""
    return f"/pictures/{product_id.lower()}.jpg"
