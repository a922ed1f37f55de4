"""The requests of the demo: each as a curl line to paste, and as a request that the demo sends and checks itself."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from urllib.parse import urlencode

from authz.demo.client import Answer, send
from authz.demo.loopback import Header
from authz.demo.signing import read_kid
from authz.demo.upstream import headers_seen, identity_in, verified_in

_READER = {"sub": "alice", "scope": "orders:read"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStep:
    """A request and its expected result.

    `token` holds the parameters of the token endpoint; None sends no token. `identity` are the identity headers that
    the upstream must see, no more and no fewer, and what it must read in a token of the sidecar that it has verified;
    None means that nothing may reach the upstream.
    """

    title: str
    method: str = "GET"
    path: str = "/orders/7"
    token: Mapping[str, str] | None
    headers: tuple[Header, ...] = ()
    status: int
    reason: str
    identity: tuple[Header, ...] | None = None

    @property
    def expected(self) -> str:
        """The expected result, in words."""
        return f"{self.status} {self.reason}, upstream's view: {_view(self.identity, separator=', ')}"

    def curl(self, *, front: str, issuer: str) -> str:
        """Return a line for a shell; the token is minted when it runs."""
        words = ["curl", "-i"]
        if self.method != "GET":
            words += ["-X", self.method]
        for name, value in self.headers:
            words += ["-H", shlex.quote(f"{name}: {value}")]
        if self.token is not None:
            words += ["-H", f'"Authorization: Bearer $(curl -s {shlex.quote(_token_url(issuer, self.token))})"']
        return " ".join([*words, shlex.quote(f"{front}{self.path}")])

    def send(self, *, front: str, issuer: str) -> Outcome:
        """Send the request through Envoy, and return the result."""
        kid = None
        try:
            headers = list(self.headers)
            if self.token is not None:
                token = send(_token_url(issuer, self.token)).body.decode("ascii")
                kid = read_kid(token)
                headers.append(("Authorization", f"Bearer {token}"))
            answer = send(f"{front}{self.path}", method=self.method, headers=headers)
        except (OSError, HTTPException) as error:
            return Outcome(step=self, kid=kid, status=0, reason=f"{type(error).__name__}: {error}", identity=None)
        reason, identity = _read(answer)
        return Outcome(step=self, kid=kid, status=answer.status, reason=reason, identity=identity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a step; `kid` is the key id of its token, `identity` is None if nothing reached the upstream."""

    step: DemoStep
    kid: str | None
    status: int
    reason: str
    identity: tuple[Header, ...] | None

    @property
    def passed(self) -> bool:
        """Whether status, reason and the upstream's view are all as expected."""
        expected = (self.step.status, self.step.reason, self.step.identity)
        return (self.status, self.reason, self.identity) == expected

    @property
    def view(self) -> str:
        """The upstream's view, a line for each header."""
        return _view(self.identity, separator="\n")

    def to_json(self) -> dict[str, object]:
        """Return the outcome as JSON data."""
        return {
            "request": self.step.title,
            "kid": self.kid,
            "status": self.status,
            "reason": self.reason,
            "upstream": None if self.identity is None else dict(self.identity),
            "passed": self.passed,
        }


_ALICE: tuple[Header, ...] = (
    ("x-auth-scopes", "orders:read"),
    ("x-auth-subject", "alice"),
    ("verified", "alice, orders:read"),
)

ALLOWED = DemoStep(title="allowed", token=_READER, status=200, reason="authenticated", identity=_ALICE)
AFTER_ROTATION = DemoStep(
    title="allowed, by a new key", token=_READER, status=200, reason="authenticated", identity=_ALICE
)
REQUESTS = (
    ALLOWED,
    DemoStep(title="no token", token=None, status=401, reason="token_missing"),
    DemoStep(title="expired", token={**_READER, "expires_in": "-60"}, status=401, reason="token_expired"),
    DemoStep(title="wrong audience", token={**_READER, "aud": "billing-api"}, status=401, reason="audience_mismatch"),
    DemoStep(title="missing scope", method="DELETE", token=_READER, status=403, reason="insufficient_scope"),
    DemoStep(
        title="forged x-auth-subject",
        token=_READER,
        headers=(("x-auth-subject", "admin"), ("X_Auth_Subject", "admin")),
        status=200,
        reason="authenticated",
        identity=_ALICE,
    ),
    DemoStep(
        title="public, forged too",
        path="/healthz",
        token=None,
        headers=(("x-auth-subject", "admin"), ("txn-token", "forged")),
        status=200,
        reason="public",
        identity=(),
    ),
)


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """Return 0 only if there are outcomes and all of them passed."""
    return 0 if outcomes and all(outcome.passed for outcome in outcomes) else 1


def _view(identity: tuple[Header, ...] | None, *, separator: str) -> str:
    if identity is None:
        return "not reached"
    return separator.join(f"{name}: {value}" for name, value in identity) or "no identity"


def _token_url(issuer: str, parameters: Mapping[str, str]) -> str:
    return f"{issuer}/token?{urlencode(parameters, safe=':')}"


def _read(answer: Answer) -> tuple[str, tuple[Header, ...] | None]:
    """Return the reason, and the identity that the upstream saw.

    The reason of a denial is in its problem document; that of an allow is in a header that Envoy sent to the upstream.
    """
    headers = headers_seen(answer)
    if headers is not None:
        return dict(headers).get("x-authz-reason", ""), identity_in(headers) + verified_in(answer)
    document = answer.json()
    return str(document.get("reason", "")) if isinstance(document, dict) else "", None
