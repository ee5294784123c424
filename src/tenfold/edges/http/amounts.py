"""Amounts of money as they travel: a text of one form, which is what the API's description says."""

from __future__ import annotations

import re
from typing import Any

import msgspec.inspect as inspect

from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.contracts.scalars import AMOUNT_PATTERN, Money

__all__ = ["check_amounts", "has_money"]

_AMOUNT = re.compile(AMOUNT_PATTERN.removesuffix("$"), re.ASCII)


def has_money(shape: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether values of a type, as `msgspec.inspect` describes it, can have money in them."""
    if isinstance(shape, inspect.Metadata):
        return has_money(shape.type, seen)
    if isinstance(shape, inspect.UnionType):
        return any(has_money(part, seen) for part in shape.types)
    if isinstance(shape, inspect.DictType):
        return has_money(shape.value_type, seen)
    if isinstance(shape, inspect.TupleType):
        return any(has_money(part, seen) for part in shape.item_types)
    item = getattr(shape, "item_type", None)
    if item is not None:
        return has_money(item, seen)
    cls = getattr(shape, "cls", None)
    if cls is Money:
        return True
    if cls in seen:
        return False
    return any(has_money(field.type, seen | {cls}) for field in getattr(shape, "fields", ()))


def check_amounts(read: Any, sent: Any, place: str = "") -> None:
    """Refuse amounts that Python's Decimal reads and no other reader of the contract would.

    It reads ` 2.50`, `+2.50`, `1_0.00`, `1e2`, digits of every script, and JSON's
    numbers. Money itself cannot tell: it is given what was read already.

    Args:
        read: a value as its type has it.
        sent: the same as plain values, as it came.
    Raises: InvalidArgumentsError (NOT_DONE) naming the field.
    """
    if isinstance(read, Money):
        amount = sent["amount"]
        if isinstance(amount, str) and _AMOUNT.fullmatch(amount):
            return
        field = f"{place}.amount" if place else "amount"
        detail = "an amount is a text of digits, such as '2.55': at most 15 and 4 decimals"
        raise InvalidArgumentsError(
            f"{field}: {detail}. Nothing was done.", field=field, detail=detail
        )
    if isinstance(read, list | tuple | set | frozenset):
        for at, (item, raw) in enumerate(zip(read, sent, strict=False)):
            check_amounts(item, raw, f"{place}.{at}" if place else str(at))
    elif isinstance(read, dict):
        for name, item, raw in zip(read, read.values(), sent.values(), strict=False):
            check_amounts(item, raw, f"{place}.{name}" if place else str(name))
    elif hasattr(read, "__struct_fields__") and isinstance(sent, dict):
        names = zip(read.__struct_fields__, read.__struct_encode_fields__, strict=True)
        for own, name in names:
            if name in sent:
                check_amounts(getattr(read, own), sent[name], f"{place}.{name}" if place else name)
