"""The same two routes in FastAPI, as its documentation writes them."""

from typing import Annotated
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel, Field

__all__ = ["app"]

_ID = UUID("0190163d-8694-739b-aea5-966c26f8ad90")
app = FastAPI()
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Thing(BaseModel):
    """What is read and made."""

    id: UUID
    sku: str
    name: str
    quantity: int
    tags: list[str]


class NewThing(BaseModel):
    """The body."""

    sku: Annotated[str, Field(pattern="^[A-Z0-9-]{1,32}$")]
    name: Name
    quantity: Annotated[int, Field(ge=1, le=1000)]
    tags: list[Name]


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Whether it serves."""
    return {}


@app.get("/v1/things/{thing_id}")
async def get_thing(thing_id: UUID) -> Thing:
    """Read one."""
    return Thing(id=thing_id, sku="85123A", name="White heart", quantity=6, tags=["a", "b"])


@app.post("/v1/things")
async def make_thing(body: NewThing) -> Thing:
    """Make one of a validated body."""
    return Thing(id=_ID, **body.model_dump())
