"""What a client of Envoy gets, and what the upstream sees, for each class of request."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from authz.demo.loopback import Header
from authz.demo.signing import SigningKey
from tests.e2e.harness import Stage

STRANGER = SigningKey.create("RS256", kid="stranger")
SECRET = SigningKey.create("HS256", kid="secret")
INVALID = {"realm": "api", "error": "invalid_token"}


@dataclass(frozen=True, slots=True)
class Denied:
    """A request that must not reach the upstream, and how it is refused; `challenge` None means that there is none."""

    status: int
    reason: str
    challenge: dict[str, str] | None
    token: Callable[[Stage], str] | None = None
    method: str = "GET"
    path: str = "/orders/7"
    headers: Sequence[Header] = field(default=())


def good(stage: Stage) -> str:
    """A token that only a rule's own requirements can refuse."""
    return stage.alpha.mint()


def tampered(stage: Stage) -> str:
    """A good token whose subject was changed after signing."""
    header, _, signature = stage.alpha.mint().split(".")
    return f"{header}.{stage.alpha.mint(sub='admin').split('.')[1]}.{signature}"


DENIALS = {
    "no token": Denied(401, "token_missing", {"realm": "api"}),
    "another scheme": Denied(401, "token_missing", {"realm": "api"}, headers=[("authorization", "Basic YTpi")]),
    "a token elsewhere": Denied(401, "token_missing", {"realm": "api"}, path="/orders/7?access_token=a.b.c"),
    "no JWS": Denied(401, "token_malformed", INVALID, lambda _: "not-a-token"),
    "padded": Denied(401, "token_malformed", INVALID, lambda stage: stage.alpha.mint() + "=="),
    "alg none": Denied(
        401, "token_malformed", INVALID, lambda stage: stage.alpha.mint(header={"alg": "none"}).rpartition(".")[0] + "."
    ),
    "too large": Denied(401, "token_too_large", INVALID, lambda stage: stage.alpha.mint(padding="x" * 16384)),
    "crit": Denied(
        401, "crit_unsupported", INVALID, lambda s: s.alpha.mint(header={**s.alpha.key.header(), "crit": ["x"], "x": 1})
    ),
    "claims of another type": Denied(
        401, "claims_malformed", INVALID, lambda stage: stage.alpha.mint(exp="4000000000")
    ),
    "no expiry": Denied(401, "claims_malformed", INVALID, lambda stage: stage.alpha.mint(exp=None)),
    "unknown issuer": Denied(401, "issuer_unknown", INVALID, lambda stage: stage.alpha.mint(iss="https://evil.test")),
    "a MAC by a stranger": Denied(401, "alg_not_allowed", INVALID, lambda stage: stage.alpha.mint(key=SECRET)),
    "an algorithm of another issuer": Denied(
        401, "alg_not_allowed", INVALID, lambda s: s.alpha.mint(iss=s.beta.issuer, header=s.alpha.key.header())
    ),
    "a type that the issuer does not make": Denied(
        401, "typ_not_allowed", INVALID, lambda s: s.beta.mint(header={**s.beta.key.header(), "typ": "JWT"})
    ),
    "a key that nobody published": Denied(503, "keys_unavailable", None, lambda s: s.alpha.mint(key=STRANGER)),
    "a stranger under a known kid": Denied(
        401, "signature_invalid", INVALID, lambda s: s.alpha.mint(key=STRANGER, header=s.alpha.key.header())
    ),
    "tampered": Denied(401, "signature_invalid", INVALID, tampered),
    "an issuer in another's name": Denied(
        503, "keys_unavailable", None, lambda s: s.beta.mint(iss=s.alpha.issuer, header=s.beta.key.header())
    ),
    "expired": Denied(401, "token_expired", INVALID, lambda s: s.alpha.mint(exp=int(time.time()) - 1)),
    "not yet valid": Denied(401, "token_not_yet_valid", INVALID, lambda s: s.alpha.mint(nbf=int(time.time()) + 200)),
    "wrong audience": Denied(401, "audience_mismatch", INVALID, lambda s: s.alpha.mint(aud="billing")),
    "missing scope": Denied(
        403,
        "insufficient_scope",
        {"realm": "api", "error": "insufficient_scope", "scope": "orders:write"},
        lambda s: s.alpha.mint(scope="orders:read"),
        method="DELETE",
    ),
    "step up": Denied(
        401,
        "step_up_required",
        {"realm": "api", "error": "insufficient_user_authentication", "acr_values": "urn:mfa"},
        good,
        path="/transfer",
    ),
    "a claim that the rule wants": Denied(403, "policy_denied", None, good, path="/admin/users"),
    "a rule for nobody": Denied(403, "policy_denied", None, good, path="/internal/metrics"),
    "no rule": Denied(403, "policy_denied", None, good, path="/elsewhere"),
    "a method without a rule": Denied(403, "policy_denied", None, good, method="PATCH"),
    "context that only the operator may set": Denied(
        403, "policy_denied", None, good, path="/partner/1", headers=[("authz.rule", "partner")]
    ),
    "an escaped slash": Denied(400, "path_ambiguous", None, good, path="/orders%2F7"),
    "an escaped slash before a dot segment": Denied(400, "path_ambiguous", None, path="/healthz%2f..%2fadmin"),
    "a double slash": Denied(400, "path_ambiguous", None, good, path="/orders//7"),
    "a double escape": Denied(400, "path_ambiguous", None, good, path="/orders/%252e%252e/admin"),
    "a path parameter": Denied(400, "path_ambiguous", None, good, path="/healthz;v=1"),
    "a host of two": Denied(400, "request_malformed", None, good, headers=[("host", "api.test,evil.test")]),
    "a subject that no header can carry": Denied(
        403, "header_unsafe", None, lambda s: s.alpha.mint(sub="bob\r\nx-auth-groups: admin")
    ),
}


@pytest.mark.parametrize("denied", DENIALS.values(), ids=DENIALS)
def test_a_request_is_refused_for_its_own_reason(denied: Denied, stage: Stage) -> None:
    """Each class of bad request gets its status, its reason and its challenge, and never reaches the upstream."""
    token = None if denied.token is None else denied.token(stage)

    reply = stage.ask(denied.path, token=token, method=denied.method, headers=denied.headers)

    assert (reply.status, reply.refused, reply.challenge) == (denied.status, denied.reason, denied.challenge)
    assert reply.seen is None


def test_a_good_token_passes_with_its_identity(stage: Stage) -> None:
    """The upstream sees who asks, and the token itself."""
    token = stage.alpha.mint(sub="alice", groups=["staff", "oncall"])

    reply = stage.ask(token=token)

    assert (reply.status, reply.allowed) == (200, "authenticated")
    assert reply.identity == (
        ("x-auth-groups", "staff,oncall"),
        ("x-auth-issuer", stage.alpha.issuer),
        ("x-auth-subject", "alice"),
    )
    assert reply.seen is not None
    assert dict(reply.seen)["authorization"] == f"Bearer {token}"


def test_a_good_token_meets_what_the_rule_requires(stage: Stage) -> None:
    """Scopes, claims and authentication context open what they are required for."""
    assert stage.ask(method="DELETE", token=stage.alpha.mint(scope="orders:read orders:write")).status == 200
    assert stage.ask("/admin/users", token=stage.alpha.mint(groups=["staff", "admin"])).status == 200
    assert stage.ask("/transfer", token=stage.alpha.mint(acr="urn:mfa")).status == 200


def test_each_issuer_is_trusted_for_itself(stage: Stage) -> None:
    """Tokens of several issuers pass, each by its own keys and under its own name."""
    for idp in (stage.alpha, stage.beta):
        reply = stage.ask(token=idp.mint())
        assert reply.status == 200
        assert reply.identity is not None
        assert dict(reply.identity)["x-auth-issuer"] == idp.issuer


def test_an_issuer_whose_keys_never_came_denies_its_own_tokens_only(stage: Stage) -> None:
    """Without keys the answer is 503 with Retry-After and no challenge; other issuers' tokens pass."""
    reply = stage.ask(token=stage.gone.mint())

    assert (reply.status, reply.refused, reply.challenge) == (503, "keys_unavailable", None)
    assert reply.answer.header("retry-after") == "1"
    assert stage.ask(token=stage.alpha.mint()).status == 200


def test_a_public_path_needs_no_token_and_gives_no_identity(stage: Stage) -> None:
    """A bad token does not matter where no one looks at it."""
    reply = stage.ask("/healthz", token="bad")

    assert (reply.status, reply.allowed, reply.identity) == (200, "public", ())


def test_an_optional_token_may_be_absent_but_not_bad(stage: Stage) -> None:
    """None is anonymous, a good one is known, a bad one is refused."""
    anonymous = stage.ask("/catalog")
    known = stage.ask("/catalog", token=stage.alpha.mint())

    assert (anonymous.status, anonymous.allowed, anonymous.identity) == (200, "anonymous", ())
    assert (known.status, known.allowed) == (200, "authenticated")
    assert stage.ask("/catalog", token="bad").status == 401


FORGED = [
    ("x-auth-subject", "admin"),
    ("X-AUTH-SUBJECT", "admin"),
    ("x_auth_subject", "admin"),
    ("X_Auth-Subject", "admin"),
    ("x-auth_groups", "admin"),
    ("X_AUTH_ISSUER", "https://evil.test"),
]


@pytest.mark.parametrize("path", ["/orders/7", "/healthz", "/catalog"])
def test_forged_identity_headers_never_reach_the_upstream(stage: Stage, path: str) -> None:
    """On every way to an allow, what the client sent under our names is gone, in each spelling."""
    token = stage.alpha.mint(sub="alice") if path == "/orders/7" else None

    reply = stage.ask(path, token=token, headers=[*FORGED, *FORGED])

    assert reply.status == 200
    expected = (("x-auth-issuer", stage.alpha.issuer), ("x-auth-subject", "alice")) if token else ()
    assert reply.identity == expected


def test_the_upstream_learns_the_decision_from_envoy_alone(stage: Stage) -> None:
    """Dynamic metadata carries reason and decision id; a client's own headers of that name are overwritten."""
    forged = [("x-authz-reason", "public"), ("x-authz-decision-id", "1")]

    reply = stage.ask(token=stage.alpha.mint(), headers=forged)

    assert reply.seen is not None
    verdict = [(name, value) for name, value in reply.seen if name.startswith("x-authz-")]
    assert [name for name, _ in verdict] == ["x-authz-reason", "x-authz-decision-id"]
    assert dict(verdict)["x-authz-reason"] == "authenticated"
    assert len(dict(verdict)["x-authz-decision-id"]) > 8


def test_two_authorization_headers_are_refused(stage: Stage) -> None:
    """Two header lines, each with a good token: no one can say whose request it is."""
    twice = [("authorization", f"Bearer {stage.alpha.mint()}"), ("Authorization", f"Bearer {stage.beta.mint()}")]

    reply = stage.ask(headers=twice)

    assert (reply.status, reply.refused) == (400, "token_multiple")
    assert reply.challenge == {"realm": "api", "error": "invalid_request"}


def test_a_dot_segment_is_judged_as_what_the_upstream_gets(stage: Stage) -> None:
    """Envoy resolves the path first; the public rule does not open what lies behind it."""
    reply = stage.ask("/healthz/%2e%2e/admin/users")

    assert (reply.status, reply.refused) == (401, "token_missing")


def test_a_denial_is_a_problem_document(stage: Stage) -> None:
    """The body is RFC 9457 JSON that must not be cached, and says nothing of the token."""
    token = stage.alpha.mint(aud="billing", sub="confidential")

    answer = stage.ask(token=token).answer

    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("cache-control") == "no-store"
    assert answer.json()["status"] == 401
    assert b"confidential" not in answer.body
    assert b"billing" not in answer.body
