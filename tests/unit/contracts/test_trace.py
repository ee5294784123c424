"""The `traceparent` header, by the rules of W3C Trace Context, section 3.2."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.envelope import TraceContext

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
HEX = "0123456789abcdef"


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=digits, max_size=digits).filter(lambda text: set(text) != {"0"})


@given(hexadecimal(32), hexadecimal(16), st.booleans())
def test_what_is_written_is_read(trace_id: str, span_id: str, sampled: bool) -> None:
    trace = TraceContext(trace_id=trace_id, span_id=span_id, sampled=sampled)
    assert TraceContext.parse(trace.traceparent) == trace


@given(st.text() | st.from_regex(r"[0-9a-fA-F-]{0,60}", fullmatch=True))
def test_whatever_is_read_has_the_form_of_the_standard(header: str) -> None:
    trace = TraceContext.parse(header)
    if trace is not None:
        assert re.fullmatch(r"[0-9a-f]{32}", trace.trace_id)
        assert re.fullmatch(r"[0-9a-f]{16}", trace.span_id)
        assert int(trace.trace_id, 16)
        assert int(trace.span_id, 16)


@given(st.integers(0, 255))
def test_only_the_lowest_flag_says_that_it_is_sampled(flags: int) -> None:
    trace = TraceContext.parse(f"00-{TRACE}-{SPAN}-{flags:02x}")
    assert trace is not None
    assert trace.sampled == bool(flags & 1)


@given(st.integers(0, 54), st.sampled_from("0123456789abcdefABCDEFgxyz-_ .²٣\x00"), st.booleans())
def test_one_wrong_character_is_enough(at: int, character: str, longer: bool) -> None:
    good = f"00-{TRACE}-{SPAN}-01"
    header = good[:at] + character + good[at + (not longer) :]
    fits = re.fullmatch(r"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", header.strip())
    assert (TraceContext.parse(header) is not None) == (fits is not None)


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01\t",
        f"cc-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01-what-the-future-will-be-like",
        f"fe-{TRACE}-{SPAN}-09-",
    ],
)
def test_this_version_and_later_ones_are_read(header: str) -> None:
    assert TraceContext.parse(header) == TraceContext(trace_id=TRACE, span_id=SPAN, sampled=True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "-",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"01-{TRACE}-{SPAN}-01.more",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
    ],
)
def test_everything_else_is_ignored(header: str) -> None:
    assert TraceContext.parse(header) is None
