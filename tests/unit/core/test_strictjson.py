"""Proves authz.core.strictjson."""

from __future__ import annotations

import json

import pytest

from authz.core.strictjson import MAX_DEPTH, MAX_NUMBER_CHARS, parse_json, parse_object

DEEPEST = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
READ = {
    "object": b' {"a": [1, -2.5, 1e3, true, false, null], "b": {"a": "x"}}\n',
    "no-brackets": b"17",
    "space-behind": b'{"a":1} ',
    "space-before": b' {"a":1}',
    "escapes": rb'"\u0041\n\"\\\/"',
    "surrogate-pair": rb'"\ud83d\ude00"',
    "surrogate-pair-in-capitals": rb'"\uD83D\uDE00"',
    "first-and-last-surrogate-pairs": rb'"\ud800\udc00\udbff\udfff"',
    "beside-the-surrogates": rb'"\ud7ff\ue000"',
    "escaped-backslash-before-what-looks-like-one": rb'"\u0041\\ud800"',
    "raw-utf-8": '"Zoë 漢 😀"'.encode(),
    "same-name-in-two-objects": b'[{"a":1},{"a":2}]',
    "deepest": DEEPEST,
    "deepest-beside-others": b"[[],{},[]," + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"]",
    "brackets-in-strings": b'["' + b"[{" * MAX_DEPTH + b'"]',
    "brackets-after-an-escaped-quote": b'["\\"' + b"[" * MAX_DEPTH + b'"]',
    "many-brackets-side-by-side": b"[" + b"[],{}," * MAX_DEPTH + b"0]",
    "longest-integer": b"1" * MAX_NUMBER_CHARS,
    "longest-fraction": b"0." + b"1" * (MAX_NUMBER_CHARS - 2),
}
REFUSED = {
    "nothing": b"",
    "two-values": b"1 2",
    "two-objects": b'{"a":1}{"b":2}',
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"a":1}'.encode("utf-16"),
    "utf-16-without-mark": '{"a":1}'.encode("utf-16-le"),
    "not-utf-8": b'"\xff"',
    "overlong-utf-8": b'"\xc0\xaf"',
    "surrogate-in-utf-8": b'"\xed\xa0\x80"',
    "lone-surrogate": rb'"\ud800"',
    "lone-low-surrogate": rb'"\udc00"',
    "lone-surrogate-in-capitals": rb'"\uDBFF"',
    "lone-surrogate-before-a-pair": rb'"\ud83d\ud83d\ude00"',
    "lone-surrogate-after-a-pair": rb'"\ud83d\ude00\ude00"',
    "lone-surrogate-after-an-escaped-backslash": rb'"\\\udfff"',
    "lone-surrogate-before-another-escape": rb'"\ud83d\n"',
    "surrogates-in-two-strings": rb'["\ud83d","\ude00"]',
    "surrogates-the-wrong-way-round": rb'"\ude00\ud83d"',
    "lone-surrogate-as-a-name": rb'{"\ud800":1}',
    "duplicate-member": b'{"a":1,"a":1}',
    "duplicate-member-deep-inside": b'[{"b":{"a":1,"c":0,"a":2}}]',
    "duplicate-member-by-escape": rb'{"a":1,"\u0061":2}',
    "nan": b"NaN",
    "infinity": b"[Infinity]",
    "minus-infinity": b"-Infinity",
    "infinity-by-exponent": b"1e400",
    "minus-infinity-by-exponent": b"-1e400",
    "integer-too-long": b"1" * (MAX_NUMBER_CHARS + 1),
    "fraction-too-long": b"0." + b"1" * (MAX_NUMBER_CHARS - 1),
    "too-deep": b"[" + DEEPEST + b"]",
    "too-deep-in-objects": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "too-deep-after-strings": b'["]]]]","\\"]]]]",' + DEEPEST + b"]",
    "too-deep-after-others": b"[" + b"[],{}," * 20 + DEEPEST + b"]",
    "too-deep-behind-others-inside": b"[" * 20 + b"[]," + b"[" * 20 + b"]" * 40,
    "thousands-deep": b"[" * 5000,
    "too-deep-and-never-closed": b'"a":"' + b"[" * (MAX_DEPTH + 1),
    "control-character-in-a-string": b'"a\nb"',
    "comment": b'{"a":1} // no',
    "trailing-comma": b'{"a":1,}',
    "single-quotes": b"{'a':1}",
    "leading-zero": b"01",
    "plus": b"+1",
    "hexadecimal": b"0x10",
    "unclosed": b'{"a":',
}


@pytest.mark.parametrize("data", READ.values(), ids=READ)
def test_json_is_read_as_everybody_reads_it(data: bytes) -> None:
    """What is accepted has the value that the standard library gives it."""
    assert parse_json(data) == json.loads(data)


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
def test_json_with_two_readings_is_refused(data: bytes) -> None:
    """What parsers disagree about, or choke on, raises ValueError and nothing else."""
    with pytest.raises(ValueError):  # noqa: PT011 - several texts, some of them the library's
        parse_json(data)


def test_integers_stay_integers() -> None:
    """A number keeps its type: 1 and 1.0 are distinguished later."""
    assert [type(number) for number in (parse_json(b"1"), parse_json(b"1.0"), parse_json(b"1e0"))] == [
        int,
        float,
        float,
    ]


def test_object() -> None:
    """An object is returned as a dict."""
    assert parse_object(b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize("data", [b"null", b"[]", b'"x"', b"1", b"true"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    """JSON of another type is no header, no payload and no key set."""
    with pytest.raises(ValueError, match="not a JSON object"):
        parse_object(data)
