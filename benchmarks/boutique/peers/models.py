"""What the FastAPI services tell each other, in Pydantic."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field, TypeAdapter

__all__ = [
    "Ad",
    "Ads",
    "Address",
    "Amount",
    "CartLine",
    "CartPage",
    "Charge",
    "Code",
    "Confirmation",
    "Conversion",
    "Home",
    "Item",
    "Items",
    "NewOrder",
    "Offer",
    "Order",
    "OrderLine",
    "Parcel",
    "Product",
    "ProductId",
    "ProductPage",
    "Products",
    "Taste",
    "Text",
    "Texts",
    "UserId",
]

Code = Annotated[str, Field(pattern="^[A-Z]{3}$")]
ProductId = Annotated[str, Field(pattern="^[A-Z0-9]{10}$")]
UserId = Annotated[str, Field(pattern="^[a-z0-9-]{1,40}$")]
Email = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)]


class Amount(BaseModel):
    """So many units of a currency, and billionths of one."""

    currency: str
    units: int
    nanos: int


class Product(BaseModel):
    """Something that the boutique sells."""

    id: str
    name: str
    description: str
    picture: str
    price: Amount
    categories: list[str]


class Item(BaseModel):
    """So many pieces of a product."""

    product_id: ProductId
    quantity: Annotated[int, Field(ge=1)]


class NewItem(Item):
    """What is put into a cart at once."""

    quantity: Annotated[int, Field(ge=1, le=10)]


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    city: str
    state: str
    country: str
    zip_code: int


class Card(BaseModel):
    """A credit card."""

    number: str
    cvv: int
    year: int
    month: int


class OrderLine(BaseModel):
    """So many pieces of a product, and what one of them costs."""

    product_id: str
    quantity: int
    cost: Amount


class Order(BaseModel):
    """What somebody has bought."""

    id: UUID
    transaction: str
    tracking: str
    shipping: Amount
    address: Address
    lines: list[OrderLine]
    total: Amount


class Ad(BaseModel):
    """A line that leads to a product."""

    text: str
    product_id: str


class Conversion(BaseModel):
    """What the currency service is asked."""

    amount: Amount
    to: Code


class Taste(BaseModel):
    """What the recommendation service is asked."""

    user_id: str
    product_ids: list[str]


class Parcel(BaseModel):
    """What the shipping service is asked."""

    address: Address
    items: list[Item]


class Charge(BaseModel):
    """What the payment service is asked."""

    amount: Amount
    card: Card


class Confirmation(BaseModel):
    """What the email service is asked."""

    to: str
    order: Order


class NewOrder(BaseModel):
    """What the checkout service is asked."""

    user_id: UserId
    currency: Code
    address: Address
    email: Email
    card: Card


class Offer(BaseModel):
    """A product at its price in the customer's currency."""

    product: Product
    price: Amount


class Home(BaseModel):
    """The front page."""

    currencies: list[str]
    offers: list[Offer]
    pieces: int
    ads: list[Ad]


class ProductPage(BaseModel):
    """The page of a product."""

    currencies: list[str]
    offer: Offer
    pieces: int
    recommended: list[Product]
    ads: list[Ad]


class CartLine(BaseModel):
    """A product in a cart, and what all its pieces cost."""

    product: Product
    quantity: int
    cost: Amount


class CartPage(BaseModel):
    """The page of a cart."""

    currencies: list[str]
    lines: list[CartLine]
    shipping: Amount
    total: Amount
    recommended: list[Product]


Ads = TypeAdapter(list[Ad])
Items = TypeAdapter(list[Item])
Products = TypeAdapter(list[Product])
Text = TypeAdapter(str)
Texts = TypeAdapter(list[str])
