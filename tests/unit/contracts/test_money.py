"""Money: exact, in one currency, written in one way, and never wrong."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.currencies import MINOR_DIGITS
from tenfold.contracts.scalars import CurrencyMismatchError, Money

CURRENCIES = st.sampled_from(sorted(MINOR_DIGITS))
SMALL = st.integers(-(10**12), 10**12)


@st.composite
def moneys(draw: st.DrawFn, currency: st.SearchStrategy[str] = CURRENCIES) -> Money:
    return Money.from_minor(draw(SMALL), draw(currency))


@st.composite
def alike(draw: st.DrawFn, count: int = 3) -> list[Money]:
    currency = draw(CURRENCIES)
    return [Money.from_minor(draw(SMALL), currency) for _ in range(count)]


@given(SMALL, CURRENCIES)
def test_an_amount_comes_back_from_its_minor_units(minor: int, currency: str) -> None:
    money = Money.from_minor(minor, currency)
    assert money.minor == minor
    assert money.amount == Decimal(minor) / 10 ** MINOR_DIGITS[currency]


@given(moneys())
def test_an_amount_comes_back_from_the_wire_as_it_was_written(money: Money) -> None:
    text = msgspec.json.encode(money)
    back = msgspec.json.decode(text, type=Money)
    assert back == money
    assert msgspec.json.encode(back) == text
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(money), type=Money) == money


@given(moneys())
def test_an_amount_has_exactly_the_digits_of_its_currency(money: Money) -> None:
    exponent = money.amount.as_tuple().exponent
    assert exponent == -MINOR_DIGITS[money.currency]


@given(alike())
def test_sums_are_those_of_the_minor_units(values: list[Money]) -> None:
    a, b, c = values
    assert (a + b).minor == a.minor + b.minor
    assert (a - b).minor == a.minor - b.minor
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + b - b == a
    assert a + Money.zero(a.currency) == a


@given(alike(1), st.integers(-1000, 1000))
def test_times_is_repeated_addition(values: list[Money], times: int) -> None:
    (a,) = values
    assert (a * times).minor == (times * a).minor == a.minor * times


@given(alike(2))
def test_amounts_are_ordered_as_their_minor_units(values: list[Money]) -> None:
    a, b = values
    assert (a < b, a <= b, a > b, a >= b) == (
        a.minor < b.minor,
        a.minor <= b.minor,
        a.minor > b.minor,
        a.minor >= b.minor,
    )
    assert max(a, b).minor == max(a.minor, b.minor)


@given(st.sampled_from(["2.5", "2.50", "2.5000", "25E-1", "+2.5"]))
def test_one_amount_is_written_in_one_way(text: str) -> None:
    money = Money(amount=Decimal(text), currency="GBP")
    assert msgspec.json.encode(money) == b'{"amount":"2.50","currency":"GBP"}'
    assert str(money) == "2.50 GBP"


@pytest.mark.parametrize(
    "nothing",
    [
        Money(amount=Decimal("-0"), currency="GBP"),
        Money(amount=Decimal("-0.00"), currency="GBP"),
        Money.zero("GBP") * -1,
        Money.from_minor(-1, "GBP") * 0,
    ],
)
def test_nothing_has_no_sign(nothing: Money) -> None:
    assert str(nothing) == "0.00 GBP"
    assert msgspec.json.encode(nothing.amount) == b'"0.00"'


@pytest.mark.parametrize(
    ("amount", "currency", "digits"),
    [("1", "JPY", 0), ("1.2", "GBP", 2), ("1.234", "KWD", 3), ("1.2345", "UYW", 4)],
)
def test_each_currency_has_its_own_digits(amount: str, currency: str, digits: int) -> None:
    assert Money(amount=Decimal(amount), currency=currency).minor == int(
        Decimal(amount) * 10**digits
    )
    finer = Decimal(amount) + Decimal(1).scaleb(-digits - 1)
    with pytest.raises(ValueError, match=f"{currency} has {digits} decimal places"):
        Money(amount=finer, currency=currency)


@pytest.mark.parametrize(
    ("amount", "currency", "why"),
    [
        (Decimal("NaN"), "GBP", "not a finite number"),
        (Decimal("sNaN"), "GBP", "not a finite number"),
        (Decimal("Infinity"), "GBP", "not a finite number"),
        (Decimal("-Infinity"), "JPY", "not a finite number"),
        (Decimal("1.005"), "GBP", "GBP has 2 decimal places, and 1.005 has more"),
        (Decimal("1E-400"), "GBP", "has more"),
        (Decimal(10) ** 15, "GBP", "not below 10^15"),
        (-(Decimal(10) ** 15), "GBP", "not below 10^15"),
        (Decimal("1E+999999"), "GBP", "not below 10^15"),
        (Decimal("1E+1000000"), "GBP", "not below 10^15"),
        (Decimal("-1E+999999999999999999"), "JPY", "not below 10^15"),
        (Decimal("1E-999999999999999999"), "GBP", "has more"),
        (Decimal("1" * 5_000), "GBP", "the amount " + "1" * 40 + "… is not below 10^15"),
        (Decimal(1), "XXX", "'XXX' is not an ISO 4217 currency code"),
        (Decimal(1), "gbp", "'gbp' is not an ISO 4217"),
        (Decimal(1), "", "'' is not an ISO 4217"),
        (1.5, "GBP", "an amount is a Decimal, not float"),
        (1, "GBP", "an amount is a Decimal, not int"),
        ("1.00", "GBP", "an amount is a Decimal, not str"),
    ],
)
def test_a_wrong_amount_is_never_made(amount: Decimal, currency: str, why: str) -> None:
    with pytest.raises(ValueError) as caught:
        Money(amount=amount, currency=currency)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b'{"amount":"1.005","currency":"GBP"}',
        b'{"amount":"one","currency":"GBP"}',
        b'{"amount":"1","currency":"GBPX"}',
        b'{"amount":"1","currency":"ABC"}',
        b'{"amount":"1"}',
    ],
)
def test_a_wrong_amount_is_not_read_either(text: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(text, type=Money)


@pytest.mark.parametrize("currency", ["XXX", "", "gbp"])
def test_minor_units_of_no_currency_are_refused(currency: str) -> None:
    with pytest.raises(ValueError, match="is not an ISO 4217 currency code"):
        Money.from_minor(1, currency)
    with pytest.raises(ValueError, match="is not an ISO 4217 currency code"):
        Money.zero(currency)


def test_a_sum_that_leaves_the_bounds_is_refused() -> None:
    most = Money(amount=Decimal("999999999999999.99"), currency="GBP")
    assert most.minor == 10**17 - 1
    for grow in (lambda: most + most, lambda: most * 2, lambda: most * 10**40):
        with pytest.raises(ValueError, match="not below"):
            grow()


def test_different_currencies_do_not_mix() -> None:
    pounds, yen = Money.from_minor(1, "GBP"), Money.from_minor(1, "JPY")
    for mix in (
        lambda: pounds + yen,
        lambda: pounds - yen,
        lambda: pounds < yen,
        lambda: pounds <= yen,
        lambda: pounds > yen,
        lambda: pounds >= yen,
    ):
        with pytest.raises(CurrencyMismatchError, match="Convert one of them first"):
            mix()
    assert pounds != yen


def test_every_currency_is_listed_once_with_its_digits() -> None:
    assert {"GBP": 2, "JPY": 0, "BHD": 3, "CLF": 4}.items() <= MINOR_DIGITS.items()
    assert all(len(code) == 3 and code.isupper() for code in MINOR_DIGITS)
    assert set(MINOR_DIGITS.values()) == {0, 2, 3, 4}


def test_large_amounts_are_shown_in_groups() -> None:
    assert str(Money.from_minor(123456789, "GBP")) == "1,234,567.89 GBP"
