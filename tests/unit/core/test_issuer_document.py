"""Proves authz.core.issuer_document: what surrounds JSON is skipped, and what is none is called by its name."""

from __future__ import annotations

import pytest

from authz.core.issuer_document import parse_document


def test_byte_order_mark() -> None:
    """RFC 8259 section 8.1: it may be ignored, once, at the very beginning."""
    assert parse_document(b'\xef\xbb\xbf{"a":1}', max_containers=9) == {"a": 1}
    for data in (b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}', b' \xef\xbb\xbf{"a":1}'):
        with pytest.raises(ValueError, match="the document is not"):
            parse_document(data, max_containers=9)


DOCUMENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the document is empty, 0 bytes"),
    "white-space": (b"\r\n ", "the document is empty, 3 bytes"),
    "mark-alone": (b"\xef\xbb\xbf", "the document is empty, 3 bytes"),
    "html": (
        b"\n<!DocType HTML>\n<html>" + b"x" * 2000,
        f"the document is HTML, 2,023 bytes, beginning with '<!DocType HTML> <html>{'x' * 38}'",
    ),
    "html-without-doctype": (b"<HTML></HTML>", "the document is HTML, 13 bytes, beginning with '<HTML></HTML>'"),
    "xml": (b"<Error>\x1b</Error>", "the document is XML, 16 bytes, beginning with '<Error>\\x1b</Error>'"),
    "pem": (b"-----BEGIN PRIVATE KEY-----\nMIIB", "the document is PEM, 32 bytes"),
    "token": (b"eyJhbGciOiJ9.e30.AAAA", "the document is a signed token (compact JWS), 21 bytes"),
    "gzip": (b"\x1f\x8b\x08", "the document is compressed by gzip, 3 bytes"),
    "utf-16": ('{"keys":[]}'.encode("utf-16"), "the document is UTF-16, not UTF-8, 24 bytes"),
    "utf-16-without-mark": ('{"keys":[]}'.encode("utf-16-le"), "the document is UTF-16, not UTF-8, 22 bytes"),
    "words": (b"no healthy upstream", "the document is not JSON, 19 bytes, beginning with 'no healthy upstream'"),
    "cut-short": (
        b'{"keys":[',
        "the document is not usable JSON, 9 bytes: Expecting value: line 1 column 10 (char 9)",
    ),
    "not-utf-8": (b'{"a":"\xff"}', "the document is not usable JSON, 9 bytes: it is not UTF-8"),
    "duplicate": (b'{"a":1,"a":1}', "the document is not usable JSON, 13 bytes: duplicate member"),
    "array": (b"[]", "the document is a JSON array, 2 bytes"),
    "text": (b'"x"', "the document is a JSON value that is not an object, 3 bytes"),
    "null": (b"null", "the document is a JSON value that is not an object, 4 bytes"),
}


@pytest.mark.parametrize(("data", "message"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_what_is_no_json_object(data: bytes, message: str) -> None:
    """The operator learns what came, how much of it, and how it begins."""
    with pytest.raises(ValueError, match="the document is") as caught:
        parse_document(data, max_containers=9)
    assert str(caught.value) == message


def test_what_may_be_a_secret_is_not_quoted() -> None:
    """A file that is named by mistake may hold one: only markup is shown then."""
    with pytest.raises(ValueError, match=r"^the document is not JSON, 6 bytes$"):
        parse_document(b"s3cr3t", max_containers=9, quote=False)
    with pytest.raises(ValueError, match="beginning with '<html>'"):
        parse_document(b"<html>", max_containers=9, quote=False)
