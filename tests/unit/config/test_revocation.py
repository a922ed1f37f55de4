"""Proves the checks and warnings of revocation: lists that cannot be loaded, logouts that cannot arrive or not last."""

from __future__ import annotations

import pytest

from authz.config.diagnostics.warnings import warnings
from authz.tooling.compare.comparison import compare
from tests.unit.config.sample import configure, problems, small

TRANSMITTERS = "revocation: {transmitters: {%s}}\n"
LISTS = "revocation: {lists: {%s}}\n"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("ours: {}", "revocation.lists.ours: must have one of url and file"),
        ("ours: {url: https://a.test/l, file: /l}", "revocation.lists.ours: must have one of url and file"),
        ("ours: {url: http://a.test/l}", "revocation.lists.ours.url: "),
        ("ours: {url: https://a.test/l, client_cert_file: /c}", "needs client_key_file too"),
        ("events: {file: /l}", "revocation.lists.events: is the name of another source"),
        ("'a b': {file: /l}", "the name of a list has at most 64 letters"),
        ("ours: {file: /l, interval: 1ms}", "revocation.lists.ours.interval: must be at least 1s"),
        ("ours: {url: http://a.test/l, insecure: {http: true}}", ""),
        ("ours: {url: https://a.test/l}, b: {file: /l}", ""),
    ],
)
def test_lists(section: str, expected: str) -> None:
    """What cannot be loaded is said with its path."""
    found = problems(small(more=LISTS % section))
    assert bool(found) == bool(expected), found
    assert any(expected in line for line in found or [""])


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("receivers: {listen: nowhere}", "receivers.listen: "),
        ("receivers: {listen: 127.0.0.1:9192}", "receivers.listen: the port is that of admin.listen"),
        ("receivers: {listen: 127.0.0.1:9001}\nserver: {listen: 127.0.0.1:9000, workers: 2}", "is one of the server's"),
        ("receivers: {listen: 127.0.0.1:9001}\nadmin: {listen: nowhere}", "admin.listen: "),
        ("receivers: {listen: 127.0.0.1:0}", ""),
        ("receivers: {listen: 0.0.0.0:9193}", ""),
    ],
)
def test_receivers(more: str, expected: str) -> None:
    """Two servers on one port would silently share it."""
    found = problems(small(more=f"{more}\n"))
    assert bool(found) == bool(expected), found
    assert any(expected in line for line in found or [""])


def test_logout_tokens_need_a_receiver() -> None:
    """Clients that are listed in vain are an error, and so is a logout of none."""
    (found,) = problems(small(issuer="logout: {clients: [web]}"))
    assert "issuers.corporate.logout: needs receivers.listen: nothing receives logout tokens" in found
    (found,) = problems(small(issuer="logout: {clients: []}", more="receivers: {listen: 127.0.0.1:0}\n"))
    assert "issuers.corporate.logout.clients: must name the OAuth clients that are logged out" in found


def warned(issuer: str = "", more: str = "") -> list[str]:
    """Return the warnings about a small configuration."""
    return [str(problem) for problem in warnings(configure(issuer=issuer, more=more))]


def test_warnings_about_logouts_that_do_not_last() -> None:
    """A restart, and tokens that live longer than a logout is remembered."""
    receivers = "receivers: {listen: 127.0.0.1:9193}\n"
    (lost,) = warned(more=TRANSMITTERS % f"hub: {{{HUB}}}")
    assert "their events are forgotten at a restart" in lost
    forgotten, endless = warned("logout: {clients: [web]}", receivers)
    assert "logouts are forgotten at a restart, for there is no revocation.file" in forgotten
    assert "tokens may live longer than a logout is remembered, 24h" in endless
    kept = f"{receivers}revocation: {{file: /events, max_lifetime: 2h}}\n"
    issuer = "logout: {clients: [web]}\n    max_lifetime: %s"
    (longer,) = warned(issuer % "3h", kept)
    assert "issuers.corporate.max_lifetime: tokens live longer than a logout is remembered, 2h" in longer
    assert warned(issuer % "2h", kept) == []
    (http,) = warned(more=LISTS % "ours: {url: http://a.test/l, insecure: {http: true}}")
    assert "anyone who controls the network to this list takes entries out of it" in http


HUB = "issuer: https://hub.test, audiences: [us], revokes_for: [corporate], poll_url: https://hub.test/poll"


@pytest.mark.parametrize(
    ("name", "section", "expected"),
    [
        ("hub", HUB, ""),
        ("corporate", HUB, "revocation.transmitters.corporate: is the name of an issuer"),
        ("'a b'", HUB, "the name of a transmitter has at most 64 letters"),
        ("hub", HUB.replace("[us]", "[]"), "revocation.transmitters.hub.audiences: must not be empty"),
        ("hub", HUB.replace("corporate", "other"), "hub.revokes_for[0]: 'other' is no issuer of this file"),
        ("hub", HUB.replace("https://hub.test,", "http://hub.test,"), "revocation.transmitters.hub.issuer: "),
        ("hub", f"{HUB}, jwks_uri: nowhere", "revocation.transmitters.hub.jwks_uri: "),
        ("hub", f"{HUB}}}, b: {{{HUB}", "revocation.transmitters.b.issuer: is the issuer of 'hub' already"),
        ("hub", HUB.partition(", poll_url")[0], "needs receivers.listen, or a poll_url"),
    ],
)
def test_transmitters(name: str, section: str, expected: str) -> None:
    """What can send nothing, or speak for no one, is said with its path."""
    found = problems(small(more=TRANSMITTERS % f"{name}: {{{section}}}"))
    assert bool(found) == bool(expected), found
    assert any(expected in line.replace('"', "'") for line in found or [""])


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        ("", "a: {file: /l}", "narrows"),
        ("a: {file: /l}", "", "widens"),
        ("a: {file: /l}", "a: {file: /other}", "unknown"),
        ("a: {file: /l}", "b: {file: /l}", "mixed"),
    ],
)
def test_the_difference_of_lists(old: str, new: str, effect: str) -> None:
    """A list that is gone widens access, a new one narrows it."""
    changes = compare(configure(more=LISTS % old), configure(more=LISTS % new))
    assert [(change.effect.value, change.about) for change in changes] == [(effect, "revocation.lists")]
