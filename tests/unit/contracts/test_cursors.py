from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.cursors import Limit, decode_cursor, encode_cursor
from tenfold.contracts.errors import InvalidArgumentsError


@given(
    st.text(max_size=50),
    st.integers(-(2**63), 2**63),
    st.uuids(),
    st.datetimes(timezones=st.just(UTC)),
)
def test_a_cursor_gives_back_what_it_was_made_of(
    name: str, number: int, id: UUID, moment: datetime
) -> None:
    text = encode_cursor(name, number, id, moment)
    assert decode_cursor(text, str, int, UUID, datetime) == (name, number, id, moment)
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=200))
def test_any_other_text_is_refused_and_names_the_field(text: str) -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        decode_cursor(text, str, UUID)
    assert refused.value.field == "cursor"


@given(st.binary(max_size=700))
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    from base64 import urlsafe_b64encode

    text = urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(InvalidArgumentsError):
        decode_cursor(text, str, UUID, datetime, int)


def test_deeply_nested_bytes_are_refused() -> None:
    from base64 import urlsafe_b64encode

    with pytest.raises(InvalidArgumentsError):
        decode_cursor(urlsafe_b64encode(b"\x91" * 760).rstrip(b"=").decode(), int)


def test_a_cursor_of_another_list_is_refused() -> None:
    cursor = encode_cursor("tea", uuid4())
    with pytest.raises(InvalidArgumentsError, match="leave the cursor out"):
        decode_cursor(cursor, int, UUID)
    with pytest.raises(InvalidArgumentsError):
        decode_cursor(cursor, str)


def test_a_limit_is_between_1_and_100() -> None:
    assert msgspec.convert(100, Limit) == 100
    for wrong in (0, 101):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, Limit)
