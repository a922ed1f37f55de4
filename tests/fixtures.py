"""A small world to decide in: two issuers, their keys and rules, tokens good and bad, and time that stands still at T.

Issuer A speaks RS256 and ES256, B speaks ES256 only; both want the audience `api` and allow no leeway. /public is
public, /mixed takes anyone who comes, /items wants a token, /admin wants a token of the group admin.
"""

# ruff: noqa: ANN401 - changes to a value are fields of several types
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.claims import ClaimPath, ClaimRules
from authz.core.decision import Decision
from authz.core.identity import ClaimHeader, Identity
from authz.core.issuer import Issuer
from authz.core.keys import KeySet
from authz.core.policy import AccessMode, HostPattern, Match, PathTemplate, Policy, Rule
from authz.core.request import Request
from authz.core.requirements import ClaimRequirement, Requirements
from authz.core.snapshot import Snapshot
from authz.demo.signing import SigningKey

T: Final = 1_800_000_000  # the instant of every decision, in seconds since the epoch
A: Final = "https://a.test"
B: Final = "https://b.test"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()  # as the value of a claim or header member: leave it out

A_RSA: Final = SigningKey.create("RS256", kid="a-rsa")
A_EC: Final = SigningKey.create("ES256", kid="a-ec")
B_EC: Final = SigningKey.create("ES256", kid="b-ec")

CLAIMS: Final[Mapping[str, object]] = {
    "iss": A,
    "aud": "api",
    "sub": "bob",
    "exp": T + 300,
    "iat": T,
    "groups": ["admin", "staff"],
}


@cache
def signer(algorithm: str, kid: str) -> SigningKey:
    """Make a key once, and find it again: some take long to make."""
    return SigningKey.create(algorithm, kid=kid)


def changed(members: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return *members* with *changes*; what is ABSENT there is left out."""
    return {name: value for name, value in {**members, **changes}.items() if value is not ABSENT}


def mint(
    key: SigningKey = A_RSA,
    *,
    header: Mapping[str, object] | bytes = {},
    claims: Mapping[str, object] = {},
    payload: bytes | None = None,
    **others: object,
) -> str:
    """Sign a good token with changes: to its *header*, or a header as bytes; to its *claims*, or a *payload* as bytes.

    The header is *header*, as given; the signature is made by *key* and its own algorithm. *others* are claims too.
    """
    head = header if isinstance(header, bytes) else _json(changed(key.header(), header))
    body = _json(changed(CLAIMS, {**claims, **others})) if payload is None else payload
    return key.sign_bytes(body, header=head)


def unsigned(header: Mapping[str, object] | bytes, signature: bytes = bytes(256), payload: bytes | None = None) -> str:
    """Write a token with a *signature* out of thin air."""
    head = header if isinstance(header, bytes) else _json(header)
    parts = (head, _json(CLAIMS) if payload is None else payload, signature)
    return b".".join(map(base64url.encode, parts)).decode()


def _json(members: Mapping[str, object]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def jwks(*keys: SigningKey | object) -> str:
    """Write a JWK Set of the public parts of *keys*; whatever is no SigningKey stands there as it is."""
    return json.dumps({"keys": [key.public() if isinstance(key, SigningKey) else key for key in keys]})


def key_set(*keys: SigningKey | object, local: bool = False) -> KeySet:
    """Read the JWK Set of *keys*."""
    return KeySet.from_json(jwks(*keys), local=local)


def issuer_a(
    algorithms: Iterable[str] = ("RS256", "ES256"),
    keys: KeySet | None = key_set(A_RSA, A_EC),  # noqa: B008 - immutable
    **rules: Any,
) -> Issuer:
    """Describe issuer A; *rules* are changes to its ClaimRules."""
    claim_rules = ClaimRules(**{"issuer": A, "audiences": frozenset({"api"}), "leeway": 0, **rules})
    return Issuer("a", frozenset(algorithms), claim_rules, keys)


def rule(
    name: str,
    *paths: str,
    allow: AccessMode = AccessMode.AUTHENTICATED,
    hosts: Iterable[str] = (),
    methods: Iterable[str] = (),
    context: Mapping[str, str] | None = None,
    **others: Any,
) -> Rule:
    """Write a rule; *others* are fields of Match, Requirements or Rule, each by its name."""
    fold = others.pop("case_insensitive", False)
    match = Match(
        paths=tuple(map(PathTemplate.parse, paths)),
        hosts=tuple(map(HostPattern.parse, hosts)),
        methods=frozenset(methods),
        context=context or {},
        case_insensitive=fold,
    )
    own = {field: others.pop(field) for field in ("accept", "shadow") if field in others}
    return Rule(name=name, match=match, allow=allow, requirements=Requirements(**others), **own)


def claim(path: str, *values: str | float | bool, every: bool = False) -> ClaimRequirement:
    """Ask that the claim at *path* has one of *values*, or *every* one."""
    return ClaimRequirement(path, ClaimPath.parse(path), values, every)


def header(name: str, path: str, **form: Any) -> ClaimHeader:
    """Write the claim at *path* into the header *name*."""
    return ClaimHeader(header=name, name=path, path=ClaimPath.parse(path), **form)


RULES: Final = (
    rule("public", "/public/**", allow=AccessMode.PUBLIC),
    rule("mixed", "/mixed/**", allow=AccessMode.OPTIONAL),
    rule("admin", "/admin/**", claims=(claim("groups", "admin"),)),
    rule("items", "/items/**"),
)
ISSUER_A: Final = issuer_a()
ISSUER_B: Final = Issuer(
    "b", frozenset({"ES256"}), ClaimRules(issuer=B, audiences=frozenset({"api"}), leeway=0), key_set(B_EC)
)
DEFAULT_SNAPSHOT: Final = Snapshot(
    issuers={A: ISSUER_A, B: ISSUER_B},
    policy=Policy(RULES),
    identity=Identity((header("x-user-id", "sub"), header("x-user-groups", "groups", join=","))),
)


def make_snapshot(*rules: Rule, a: Issuer = ISSUER_A, **changes: Any) -> Snapshot:
    """Return the world with *changes*: other *rules*, another issuer *a*, or other fields of the Snapshot."""
    policy = Policy(rules) if rules else DEFAULT_SNAPSHOT.policy
    return replace(DEFAULT_SNAPSHOT, **{"issuers": {A: a, B: ISSUER_B}, "policy": policy, **changes})


def ask(token: str | None = None, *, headers: Mapping[str, str] | None = None, **changes: Any) -> Request:
    """Write a request for /items/1 with *token* as its bearer, and *changes* to its other fields."""
    bearer = {} if token is None else {"authorization": f"Bearer {token}"}
    return Request(
        **{"method": "GET", "host": "api.test", "path": "/items/1", **changes}, headers={**bearer, **(headers or {})}
    )


def decide(
    token: str | None = None, *, snapshot: Snapshot = DEFAULT_SNAPSHOT, now: float = T, **request: Any
) -> Decision:
    """Judge the request of `ask` in the world, or in *snapshot*."""
    return authorize(ask(token, **request), snapshot, now)
