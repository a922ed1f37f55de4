"""Proves where keys are looked for: discovery that moves, lies or falls silent, conditional requests, files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from authz.demo.signing import SigningKey
from authz.feeds.failure import RefreshError
from authz.feeds.http.fetch import Response
from authz.feeds.sources import FileSource, KeySetReader, UrlSource
from authz.telemetry.keys import Refresh
from tests.unit.feeds.rig import DISCOVERY, ISSUER, JWKS, K1, K2, Rig, answer, discover, document, fail, publish

MOVED = "https://a.test/moved"
HOUR = 3600.0


def test_discovery_leads_to_the_keys() -> None:
    """One look at the document serves many refreshes; after the longest interval it is asked again."""
    rig = Rig(discovery=True)
    rig.run(HOUR - 1)
    assert rig.kids == {"k1"}
    assert len(rig.site.times(DISCOVERY)) == 1
    rig.run(HOUR)
    assert len(rig.site.times(DISCOVERY)) == 2


@pytest.mark.parametrize(
    "issuer", ["https://A.test", "https://a.test/", "https://b.test", "", None, ["https://a.test"]]
)
def test_document_of_another_issuer_is_refused(issuer: object) -> None:
    """E07: case, a trailing slash, another host: the document is refused, the last good keys stay."""
    rig = Rig(discovery=True)
    rig.run()
    rig.site.at[DISCOVERY] = answer(json.dumps({"issuer": issuer, "jwks_uri": MOVED}).encode())
    rig.site.at[MOVED] = publish(K2)
    rig.run(2 * HOUR)
    assert rig.kids == {"k1"}
    assert (rig.refreshes(Refresh.DISCOVERY_REJECTED) or 0) >= 1
    assert rig.site.times(MOVED) == []


def test_byte_order_marks_are_skipped() -> None:
    """Files that some tools save begin with one (RFC 8259 section 8.1): discovery and keys are read all the same."""
    rig = Rig(discovery=True)
    mark = b"\xef\xbb\xbf"
    found = mark + json.dumps({"issuer": ISSUER, "jwks_uri": JWKS}).encode()
    rig.site.at |= {DISCOVERY: answer(found), JWKS: answer(mark + document(K1))}
    rig.run()
    assert rig.kids == {"k1"}


@pytest.mark.parametrize("url", [DISCOVERY, JWKS])
def test_a_page_in_place_of_a_document_is_named(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A proxy's sign-in page is called HTML, with its size and its beginning, where the operator looks."""
    rig = Rig(discovery=True)
    rig.site.at[url] = answer(b"<!DOCTYPE html><title>Sign in</title>" + b" " * 1497)
    rig.run()
    said = f"{url}: the document is HTML, 1,534 bytes, beginning with '<!DOCTYPE html><title>Sign in</title>'"
    assert caplog.messages[-1].endswith(said)


def test_a_moved_key_set_is_found_by_an_unknown_key() -> None:
    """Rotation through a new jwks_uri: the old URL has no news, so discovery is asked in the same flight."""
    rig = Rig(discovery=True)
    rig.run(90)
    rig.site.at[DISCOVERY] = discover(MOVED)
    rig.site.at[MOVED] = publish(K2)
    rig.ask()
    assert rig.kids == {"k2"}


def test_unknown_keys_ask_discovery_once_an_interval() -> None:
    """A flood of unknown key ids costs discovery at most one request in the shortest interval."""
    rig = Rig(discovery=True)
    rig.run()
    for number in range(6_000):
        rig.ask(f"random-{number}")
        rig.run(0.1)
    assert len(rig.site.times(DISCOVERY)) <= 11
    assert len(rig.site.times(JWKS)) <= 1 + 4 + 600 / 15 + 1


def test_silent_discovery_does_not_stop_the_keys() -> None:
    """Where the document does not come, the URL that last gave keys is used on, as long as keys may be stale."""
    rig = Rig(discovery=True)
    rig.run()
    rig.site.at[DISCOVERY] = fail(Refresh.TIMEOUT)
    rig.run(2 * HOUR)
    rig.site.at[JWKS] = publish(K1, K2)
    rig.run(HOUR)
    assert rig.kids == {"k1", "k2"}
    rig.run(48 * HOUR)
    assert rig.kids is None


def test_discovery_is_asked_again_when_the_keys_fail() -> None:
    """A key set that has moved away, leaving an error, is found at its new place with the next attempt."""
    rig = Rig(discovery=True)
    rig.run()
    rig.site.at |= {JWKS: fail(), DISCOVERY: discover(MOVED), MOVED: publish(K2)}
    rig.run(580)
    assert rig.kids == {"k2"}


def test_bad_target_stops_the_refresh() -> None:
    """E05: where the document names a URL that is refused, the old URL is not used behind its back."""
    rig = Rig(discovery=True)
    rig.run()
    rig.site.at |= {DISCOVERY: discover("file:///etc/passwd"), "file:///etc/passwd": fail(Refresh.UNTRUSTED)}
    rig.run(2 * HOUR)
    fetched = len(rig.site.times(JWKS))
    rig.run(HOUR)
    assert len(rig.site.times(JWKS)) == fetched
    assert rig.kids == {"k1"}


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"'])
def test_conditional_requests(etag: str) -> None:
    """The validators of the last answer go with the next request, and only those."""
    rig = Rig()
    date = "Sat, 01 Jan 2028 00:00:00 GMT"
    rig.site.at[JWKS] = publish(K1, etag=etag, last_modified=date)
    rig.run(600)
    assert [headers for _, _, headers in rig.site.asked] == [
        {},
        {"if-none-match": etag, "if-modified-since": date},
    ]


@pytest.mark.parametrize("etag", ['"a\rb"', '"\xe9"', '"' + "x" * 2000 + '"', ""])
def test_validators_that_cannot_be_sent_are_not_kept(etag: str) -> None:
    """A broken ETag must not make every later request fail."""
    rig = Rig()
    rig.site.at[JWKS] = publish(K1, etag=etag)
    rig.run(600)
    assert [headers for _, _, headers in rig.site.asked] == [{}, {}]


def test_refused_document_leaves_the_validators() -> None:
    """After a bad document the next request is conditional on the last good one: a 304 then means that one."""
    rig = Rig()
    rig.site.at[JWKS] = publish(K1, etag='"good"')
    rig.run()
    rig.site.at[JWKS] = answer(b"{}", etag='"bad"')
    rig.run(600)
    assert rig.site.asked[-1][2] == {"if-none-match": '"good"'}


def test_unasked_304_is_a_failure() -> None:
    """A 304 to a request without a condition brings no keys."""
    source = UrlSource(lambda url, headers: Response(304, {}, b""), JWKS, KeySetReader())
    with pytest.raises(RefreshError, match="without a condition"):
        source.load()


def test_304_under_other_authorities_confirms_nothing() -> None:
    """What came under an authority that was since replaced may be forged, its ETag copied: the whole is asked again."""
    rig = Rig()
    rig.site.at[JWKS] = lambda _: Response(200, {"etag": '"1"'}, document(K1), "old")
    rig.run()

    def genuine(headers: Mapping[str, str]) -> Response:
        return Response(304, {}, b"", "new") if headers else Response(200, {"etag": '"1"'}, document(K2), "new")

    rig.site.at[JWKS] = genuine
    rig.run(600)
    assert [headers for _, _, headers in rig.site.asked] == [{}, {"if-none-match": '"1"'}, {}]
    assert rig.kids == {"k2"}
    rig.run(600)
    assert rig.site.asked[-1][2] == {"if-none-match": '"1"'}
    assert rig.feed.view.last_good is not None
    assert rig.feed.view.last_good.authorities == "new"


def test_discovery_is_asked_again_under_new_authorities() -> None:
    """A document that came under the old ones does not say for an hour where the keys of the new ones are."""
    rig = Rig(discovery=True)
    rig.run()
    assert len(rig.site.times(DISCOVERY)) == 1
    rig.site.at[JWKS] = lambda _: Response(200, {}, document(K1), "new")
    rig.run(600)
    assert len(rig.site.times(DISCOVERY)) == 1
    rig.site.at[DISCOVERY] = lambda _: Response(
        200, {}, json.dumps({"issuer": ISSUER, "jwks_uri": JWKS}).encode(), "new"
    )
    rig.run(600)
    assert len(rig.site.times(DISCOVERY)) == 2
    rig.run(1200)
    assert len(rig.site.times(DISCOVERY)) == 2


def test_larger_sets_are_read_where_allowed() -> None:
    """The configured bounds count, not the core's defaults."""
    keys = [{**K1.public(), "kid": f"k{number}", "x-padding": "x" * 4000} for number in range(70)]
    assert len(KeySetReader(max_keys=100, max_bytes=1 << 20).read(document(*keys), JWKS).keys) == 70
    with pytest.raises(RefreshError):
        KeySetReader().read(document(*keys), JWKS)


def test_file_is_read_when_it_changes(tmp_path: Path) -> None:
    """An unchanged file says nothing new; a replaced one does; a broken or missing one is a failure."""
    path = tmp_path / "keys.json"
    path.write_bytes(document(K1))
    source = FileSource(path, KeySetReader(local=True))
    assert source.load(on_demand=False).value is not None
    assert source.load(on_demand=False).value is None
    (tmp_path / "next").write_bytes(document(K2))
    os.replace(tmp_path / "next", path)  # noqa: PTH105 - as kubelet does
    keys = source.load(on_demand=False).value
    assert keys is not None
    assert [key.kid for key in keys.keys] == ["k2"]
    path.write_bytes(b"{")
    with pytest.raises(RefreshError) as refused:
        source.load(on_demand=False)
    assert refused.value.result is Refresh.JWKS_REJECTED
    path.unlink()
    with pytest.raises(RefreshError) as gone:
        source.load(on_demand=False)
    assert gone.value.result is Refresh.UNREACHABLE
    path.mkdir()
    with pytest.raises(RefreshError, match="is not a file"):
        source.load(on_demand=False)


def test_file_is_bounded_and_may_hold_secrets(tmp_path: Path) -> None:
    """A symmetric key is good in a local file only; the byte cap counts there too."""
    path = tmp_path / "keys.json"
    secret = json.loads(SigningKey.create("HS256").jwk.export_symmetric())
    path.write_bytes(document(secret))
    assert FileSource(path, KeySetReader(local=True)).load(on_demand=False).value is not None
    with pytest.raises(RefreshError):
        FileSource(path, KeySetReader()).load(on_demand=False)
    path.write_bytes(document(secret) + b" " * 2000)
    with pytest.raises(RefreshError) as large:
        FileSource(path, KeySetReader(local=True, max_bytes=2000)).load(on_demand=False)
    assert large.value.result is Refresh.TOO_LARGE
