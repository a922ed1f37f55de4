"""Proves `breaks` of `check-config --diff`: what an Envoy that fits the old file would make of requests to the new."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import pytest

from authz.config.document import parse_document
from authz.config.load import parse
from authz.tooling.compare.comparison import compare
from authz.tooling.compare.effects import NEEDS_REVIEW, Effect
from authz.tooling.compare.envoy import BREAKAGES, compare_envoys
from authz.tooling.envoy_config.bootstrap import bootstrap, write
from authz.tooling.envoy_config.derive import derive
from authz.tooling.envoy_config.finding_kinds import Level
from authz.tooling.envoy_config.review import review
from tests.unit.tooling.envoy_samples import BASE, COOKIE, SAMPLES, TLS, sample

UNDERSCORE: Final = BASE + "token: {sources: [{header: x_token}]}\n"
MANY: Final = [*((name, 1) for name in SAMPLES), ("unix", 2), ("loopback", 2), ("mutual TLS", 3)]
SERVER_TLS: Final = TLS.format(listen="127.0.0.1:9191", client_ca="")
MUTUAL: Final = TLS.format(listen="127.0.0.1:9191", client_ca=", client_ca_file: /tls/ca.crt")


def breaking(old: str, new: str) -> list[tuple[str, str]]:
    """Return what breaks, by what it is about."""
    changes = list(compare_envoys(parse(old, file="old.yaml"), parse(new, file="new.yaml")))
    assert {change.effect for change in changes} <= {Effect.BREAKS}
    return [(change.about, change.text) for change in changes]


HEADER: Final = BASE.replace("x-auth-subject: sub", "x-auth-subject: sub, x-auth-issuer: iss")
LOOPBACK: Final = SAMPLES["loopback"]
PORT: Final = LOOPBACK.replace("9191", "9291")
TWO_PORTS: Final = BASE + 'server: {listen: "127.0.0.1:9291", workers: 2}\n'

BROKEN: Final = {
    "a header": (BASE, HEADER, "identity.headers", "does not allow changes of x-auth-issuer, and answers 500"),
    "tokens that are taken out": (
        BASE,
        BASE + COOKIE,
        "token.forward",
        "does not allow changes of authorization, cookie, and",
    ),
    "a long wait": (BASE, SAMPLES["patient"], "*.max_wait", "times out after 1400 ms"),
    "two slashes": (
        BASE,
        BASE.replace('["/**"]}', '["/**"]}, accept: [double_slash]'),
        "rules.accept",
        "Envoy merges // into /",
    ),
    "an encoded slash": (
        BASE,
        BASE.replace('["/**"]}', '["/**"]}, accept: [encoded_slash]'),
        "rules.accept",
        "Envoy itself answers 400 to an encoded_slash",
    ),
    "an underscore": (BASE, UNDERSCORE, "token.sources", "a header that has a _"),
    "long tokens": (BASE, SAMPLES["long tokens"], "token.max_bytes", "431 to headers above 60 KiB"),
    "another address": (BASE, LOOPBACK, "server.listen", "Envoy calls unix:/run/authz/authz.sock, and answers 503"),
    "sockets of workers": (BASE, BASE + "server: {workers: 2}\n", "server.listen", "first give Envoy the old and"),
    "ports of workers": (
        PORT,
        TWO_PORTS,
        "server.workers",
        "never calls 127.0.0.1:9292",
    ),
    "proofs": (BASE, SAMPLES["proofs"], "issuers.*.dpop", "does not allow changes of dpop, and answers 500"),
    "another receiver": (
        SAMPLES["receiving"],
        SAMPLES["receiving"].replace("9193", "9194"),
        "receivers.listen",
        "passes them to 127.0.0.1:9193: logout tokens and events get 503",
    ),
    "TLS": (LOOPBACK, BASE + SERVER_TLS, "server.tls", "Envoy uses plaintext and the sidecar TLS"),
    "no TLS": (BASE + SERVER_TLS, LOOPBACK, "server.tls", "Envoy uses TLS and the sidecar plaintext"),
    "client certificates": (
        BASE + SERVER_TLS,
        BASE + MUTUAL,
        "server.tls.client_ca_file",
        "presents no client certificate",
    ),
}
ABOUT: Final = {
    "endpoints-missing": {"server.listen", "server.workers"},
    "headers-too-short": {"token.max_bytes"},
    "in-plaintext": {"server.tls"},
    "mutations-refused": {"identity.headers", "issuers.*.dpop", "token.forward"},
    "timeout-short": {"*.max_wait"},
}
HARMLESS: Final = {
    "breaker-low",  # Envoy asks for as many as before
    "endpoints-foreign",  # those of workers that are gone: a health check finds no one there
    "escaped-slashes",  # these two the sidecar refuses, since no rule accepts them any more
    "slashes-not-merged",
    "route-not-checked",  # to a receiver that is gone: nothing answers there
}
QUIET: Final = {
    "a header less": (HEADER, BASE),
    "another claim": (BASE, BASE.replace("x-auth-subject: sub", "x-auth-subject: email")),
    "a shorter wait": (SAMPLES["patient"], BASE),
    "a wait that Envoy waits for": (
        BASE,
        BASE.replace("audiences: [api]", "audiences: [api], fetch: {max_wait: 1300ms}"),
    ),
    "stricter paths": (SAMPLES["odd paths"], BASE),
    "no underscore": (UNDERSCORE, BASE),
    "tokens that stay": (BASE + COOKIE, BASE),
    "shorter tokens": (SAMPLES["long tokens"], BASE),
    "somewhat longer tokens": (BASE, BASE + "token: {max_bytes: 32KiB}\n"),
    "a worker less": (TWO_PORTS, PORT),
    "no client certificates": (BASE + MUTUAL, BASE + SERVER_TLS),
    "proofs that stay": (BASE, SAMPLES["proofs"] + "dpop: {forward: true}\n"),
    "room for more": (BASE, SAMPLES["busy"]),
    "a receiver": (BASE, SAMPLES["receiving"]),
    "no receiver": (SAMPLES["receiving"], BASE),
}


@pytest.mark.parametrize(("old", "new", "about", "text"), BROKEN.values(), ids=BROKEN)
def test_what_breaks(old: str, new: str, about: str, text: str) -> None:
    """One line: the key, what becomes of requests, and what to do first; it comes before all else, and is loud."""
    ((told_about, told),) = breaking(old, new)
    assert told_about == about
    assert text in told
    assert any(remedy in told for remedy in ("first reload Envoy", "first give Envoy", "when the sidecar restarts"))
    changes = compare(parse(old, file="old.yaml"), parse(new, file="new.yaml"))
    assert changes[0].effect is Effect.BREAKS
    assert Effect.BREAKS in NEEDS_REVIEW


@pytest.mark.parametrize(("old", "new"), QUIET.values(), ids=QUIET)
def test_what_does_not_break(old: str, new: str) -> None:
    """An Envoy that may do more than is needed, or has room for less, breaks nothing."""
    assert breaking(old, new) == []


def test_every_setting_that_may_differ_has_a_check() -> None:
    """Anyone who lets another setting of Envoy follow the configuration says what breaks until Envoy has it."""
    fitted = [derive(sample(name, workers=workers)) for name, workers in MANY] + [derive(parse(UNDERSCORE, file="x"))]
    differing = {
        field.name for field in fields(fitted[0]) if len({repr(getattr(each, field.name)) for each in fitted}) > 1
    }
    assert differing == set(BREAKAGES)


@pytest.mark.parametrize(("name", "workers"), MANY)
def test_what_a_check_of_envoy_finds_is_told(name: str, workers: int) -> None:
    """The Envoy that was printed for one file, checked against the others: whatever is found there is listed here."""
    old = sample(name, workers=workers)
    text = write(bootstrap(derive(old), listen="127.0.0.1:8080", upstream="localhost:80", admin="127.0.0.1:9901"), ())
    envoy = parse_document(text, file="envoy.yaml")
    for new in (sample(other, workers=number) for other, number in MANY):
        found = {each.name for each in review(envoy, new) if each.kind.level is Level.FINDING}
        told = {change.about for change in compare_envoys(old, new)}
        assert all(told & ABOUT[each] for each in found - HARMLESS)
