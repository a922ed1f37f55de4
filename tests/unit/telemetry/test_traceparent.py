"""Proves authz.telemetry.traceparent: W3C Trace Context is read as it is written down, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.telemetry.traceparent import TraceParent, find_parent, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (SAMPLED, True),
        (UNSAMPLED, False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-fe", False),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"fe-{TRACE}-{SPAN}-01-what-will-be", True),
    ],
)
def test_ids_and_the_sampled_bit_are_read(text: str, *, sampled: bool) -> None:
    """Of the flags only the lowest bit counts; a later version may say more."""
    assert parse_traceparent(text) == TraceParent(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        SAMPLED[:-1],
        SAMPLED + "0",
        SAMPLED + "-more",
        SAMPLED.upper(),
        f" {SAMPLED}",
        f"{SAMPLED}\n",
        f"{SAMPLED},{SAMPLED}",
        f"ff-{TRACE}-{SPAN}-01",
        f"0x-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{'٣' * 32}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01-{'x' * 8192}",
    ],
)
def test_what_is_malformed_or_too_long_is_ignored(text: str) -> None:
    """Wrong version, length, case, separator, zeros, digits of other scripts, 8 KiB: no parent, and no error."""
    assert parse_traceparent(text) is None


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    """Whatever is sent is a parent or none."""
    parse_traceparent(text)


def test_the_parent_is_in_the_metadata() -> None:
    """Envoy sends it among other keys, with a tracestate that is empty, or of a size that the client chose."""
    for state in ("", "a=b", "x" * 100_000):
        metadata = (("user-agent", "grpc"), ("x-bin", b"\0"), ("traceparent", SAMPLED), ("tracestate", state))
        assert find_parent(metadata, {}) == TraceParent(TRACE, SPAN, sampled=True)


def test_two_parents_are_none() -> None:
    """No one knows which one is meant."""
    assert find_parent((("traceparent", SAMPLED), ("traceparent", UNSAMPLED)), {"traceparent": SAMPLED}) is None
    assert find_parent((("traceparent", b"00"),), {}) is None


def test_envoy_s_word_comes_before_the_client_s() -> None:
    """The client's header counts where it is given, and where Envoy sends none."""
    assert find_parent((), {"traceparent": UNSAMPLED}) == TraceParent(TRACE, SPAN, sampled=False)
    assert find_parent((("traceparent", SAMPLED),), {"traceparent": UNSAMPLED}) == TraceParent(
        TRACE, SPAN, sampled=True
    )
    assert find_parent((), {}) is None
