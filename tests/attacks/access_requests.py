"""Requests with access tokens and proofs, good and bad, for several verifiers to decide on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from jwcrypto.common import base64url_encode

from authz.core.key import thumbprint_of
from authz.demo.signing import SigningKey
from tests.fixtures import A_EC, A_RSA, ABSENT, T, mint, signer
from tests.proofs import key, prove, token_hash

HOST: Final = "api.test"
PATH: Final = "/items/1"
_IDS: Final = count()


@dataclass(frozen=True, slots=True)
class Access:
    """A request: its *authorization*, its *proof* if it has one, and the URL that the client asked for."""

    authorization: str
    proof: str | None = None
    method: str = "GET"
    path: str = PATH

    @property
    def headers(self) -> dict[str, str]:
        """The headers that verifiers read."""
        return {"authorization": self.authorization} | ({} if self.proof is None else {"dpop": self.proof})

    @property
    def url(self) -> str:
        """What the client asked for."""
        return f"https://{HOST}{self.path}"


def token(signing: SigningKey = A_RSA, *, header: Mapping[str, object] = {}, **claims: object) -> str:
    """Write an access token as RFC 9068 wants it, with changes."""
    whole = {"jti": f"token {next(_IDS)}", "client_id": "web", **claims}
    return mint(signing, header={"typ": "at+jwt", **header}, claims=whole)


def bearer(written: str | None = None, **changes: Any) -> Access:  # noqa: ANN401
    """Send a token as a bearer token."""
    return Access(f"Bearer {written or token(**changes)}")


def bound(holder: SigningKey | None = None, **claims: Any) -> str:  # noqa: ANN401
    """Write a token that is bound to the key of its holder."""
    return token(cnf={"jkt": thumbprint_of(dict((holder or key()).public()))}, **claims)


def dpop(
    signing: SigningKey | None = None,
    *,
    held: str | None = None,
    path: str = PATH,
    method: str = "GET",
    **changes: Any,  # noqa: ANN401
) -> Access:
    """Send a bound token with a proof, with changes to it."""
    held = held or bound(signing)
    standard = {"htu": f"https://{HOST}{path}", "htm": method, "ath": token_hash(held), "jti": f"proof {next(_IDS)}"}
    return Access(f"DPoP {held}", prove(signing, **{**standard, **changes}), method, path)


def other_jwk(**members: object) -> Access:
    """Send a proof whose key has other members."""
    return dpop(header={"jwk": {**_bare(key()), **members}})


def _bare(signing: SigningKey) -> dict[str, object]:
    return {name: value for name, value in signing.public().items() if name not in ("kid", "alg", "use")}


def _spoilt(text: str, part: int, change: Callable[[str], str]) -> str:
    parts = text.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def _signed_twice() -> str:
    """A member of the payload that is there twice."""
    payload = json.dumps({"iss": "https://a.test", "aud": "api", "sub": "bob", "exp": T + 300, "iat": T})
    text = payload[:-1] + ', "sub": "root", "jti": "j", "client_id": "web"}'
    return mint(header={"typ": "at+jwt"}, payload=text.encode())


def _mac_of_the_public_key() -> str:
    """The issuer's public key as the secret of a MAC."""
    secret = SigningKey.create("HS256", kid="a-rsa")
    return token(secret)


def _private() -> Access:
    return other_jwk(**{name: value for name, value in json.loads(key().jwk.export_private()).items() if name == "d"})


def _symmetric() -> Access:
    secret = SigningKey.create("HS256", kid="secret")
    head = {"typ": "dpop+jwt", "alg": "HS256", "jwk": json.loads(secret.jwk.export())}
    held = bound()
    body = {"jti": "mac", "htm": "GET", "htu": f"https://{HOST}{PATH}", "iat": T, "ath": token_hash(held)}
    return Access(f"DPoP {held}", secret.sign_bytes(json.dumps(body).encode(), header=json.dumps(head).encode()))


def _foreign_signature() -> Access:
    return dpop(signer("ES256", "thief"), held=bound(), header={"jwk": _bare(key())})


def _of_another_key() -> Access:
    return dpop(signer("ES256", "thief"), held=bound())


def _used_again() -> Access:
    return USED


def _two_proofs() -> Access:
    one, other = dpop(), dpop()
    return Access(one.authorization, f"{one.proof}, {other.proof}")


USED: Final = dpop()
_OPAQUE: Final = base64url_encode(b"no JSON")

BEARERS: Final[dict[str, Callable[[], Access]]] = {
    "a token": bearer,
    "ES256": lambda: bearer(signing=A_EC),
    "scheme in lower case": lambda: Access(f"bearer {token()}"),
    "scheme in upper case": lambda: Access(f"BEARER {token()}"),
    "two spaces": lambda: Access(f"Bearer  {token()}"),
    "another scheme": lambda: Access(f"Basic {token()}"),
    "typ: JWT": lambda: bearer(header={"typ": "JWT"}),
    "typ: none": lambda: bearer(header={"typ": ABSENT}),
    "typ: in upper case": lambda: bearer(header={"typ": "AT+JWT"}),
    "typ: with application/": lambda: bearer(header={"typ": "application/at+jwt"}),
    "typ: of a logout token": lambda: bearer(header={"typ": "logout+jwt"}),
    "typ: of a proof": lambda: bearer(header={"typ": "dpop+jwt"}),
    "typ: of an event": lambda: bearer(header={"typ": "secevent+jwt"}),
    "jti: none": lambda: bearer(jti=ABSENT),
    "jti: a number": lambda: bearer(jti=7),
    "client_id: none": lambda: bearer(client_id=ABSENT),
    "client_id: a number": lambda: bearer(client_id=7),
    "sub: none": lambda: bearer(sub=ABSENT),
    "sub: empty": lambda: bearer(sub=""),
    "sub: a number": lambda: bearer(sub=7),
    "iat: none": lambda: bearer(iat=ABSENT),
    "iat: ahead": lambda: bearer(iat=T + 60),
    "iat: text": lambda: bearer(iat=str(T)),
    "exp: now": lambda: bearer(exp=T),
    "exp: a minute ago": lambda: bearer(exp=T - 60),
    "exp: a fraction": lambda: bearer(exp=T + 60.5),
    "exp: text": lambda: bearer(exp=str(T + 60)),
    "exp: none": lambda: bearer(exp=ABSENT),
    "exp: in milliseconds": lambda: bearer(exp=(T + 60) * 1000),
    "nbf: ahead": lambda: bearer(nbf=T + 60),
    "aud: a list": lambda: bearer(aud=["other", "api"]),
    "aud: a list with a number": lambda: bearer(aud=["api", 7]),
    "aud: another": lambda: bearer(aud="other"),
    "aud: in a longer text": lambda: bearer(aud="api other"),
    "aud: none": lambda: bearer(aud=ABSENT),
    "iss: another": lambda: bearer(iss="https://evil.test"),
    "iss: with a slash": lambda: bearer(iss="https://a.test/"),
    "iss: none": lambda: bearer(iss=ABSENT),
    "alg: none": lambda: bearer(_spoilt(token(header={"alg": "none"}), 2, lambda _: "")),
    "alg: a MAC": lambda: bearer(_mac_of_the_public_key()),
    "alg: not in the list": lambda: bearer(signing=signer("PS256", "a-ps")),
    "alg: of another key": lambda: bearer(header={"alg": "ES256"}),
    "kid: unknown": lambda: bearer(header={"kid": "unknown"}),
    "kid: none": lambda: bearer(header={"kid": ABSENT}),
    "kid: of another key": lambda: bearer(header={"kid": "a-ec"}),
    "crit": lambda: bearer(header={"crit": ["x"], "x": 1}),
    "crit: b64": lambda: bearer(header={"crit": ["b64"], "b64": True}),
    "jwk in the header": lambda: bearer(
        signing=signer("RS256", "evil"), header={"jwk": signer("RS256", "evil").public()}
    ),
    "a member twice": lambda: bearer(_signed_twice()),
    "another signature": lambda: bearer(_spoilt(token(), 2, lambda part: token().split(".")[2])),
    "a changed payload": lambda: bearer(_spoilt(token(), 1, lambda part: token(sub="root").split(".")[1])),
    "padding": lambda: bearer(_spoilt(token(), 2, lambda part: part + "==")),
    "a payload that is no JSON": lambda: bearer(_spoilt(token(), 1, lambda part: _OPAQUE)),
    "two parts": lambda: bearer(token().rpartition(".")[0]),
    "five parts": lambda: bearer(f"{token()}.a.b"),
    "cnf: empty": lambda: bearer(cnf={}),
    "cnf: of a certificate": lambda: bearer(cnf={"x5t#S256": token_hash("certificate")}),
    "cnf: a text": lambda: bearer(cnf="x"),
}
PROOFS: Final[dict[str, Callable[[], Access]]] = {
    "a proof": dpop,
    "RS256": lambda: dpop(key("RS256")),
    "PS256": lambda: dpop(key("PS256")),
    "Ed25519": lambda: dpop(key("Ed25519")),
    "EdDSA": lambda: dpop(key("EdDSA")),
    "ES384": lambda: dpop(key("ES384")),
    "scheme in lower case": lambda: Access((one := dpop()).authorization.replace("DPoP", "dpop"), one.proof),
    "typ: JWT": lambda: dpop(header={"typ": "JWT"}),
    "typ: none": lambda: dpop(header={"typ": ABSENT}),
    "typ: in upper case": lambda: dpop(header={"typ": "DPOP+JWT"}),
    "typ: with application/": lambda: dpop(header={"typ": "application/dpop+jwt"}),
    "jwk: with alg, use and kid": lambda: other_jwk(alg="ES256", use="sig", kid="mine"),
    "jwk: with another alg": lambda: other_jwk(alg="ES384"),
    "jwk: for encryption": lambda: other_jwk(use="enc"),
    "jwk: with key_ops and ext": lambda: other_jwk(key_ops=["verify"], ext=True),
    "jwk: private": _private,
    "jwk: symmetric": _symmetric,
    "jwk: none": lambda: dpop(header={"jwk": ABSENT}),
    "jwk: a kid": lambda: dpop(header={"jwk": ABSENT, "kid": "mine"}),
    "signed by another key": _foreign_signature,
    "of another key than the token's": _of_another_key,
    "a changed signature": lambda: Access(
        (one := dpop()).authorization, _spoilt(one.proof or "", 2, lambda part: (dpop().proof or "").split(".")[2])
    ),
    "crit": lambda: dpop(header={"crit": ["x"], "x": 1}),
    "jti: none": lambda: dpop(jti=ABSENT),
    "jti: empty": lambda: dpop(jti=""),
    "jti: a number": lambda: dpop(jti=7),
    "jti: of 11 characters": lambda: dpop(jti="0.k3x9q2a1b"),
    "htm: another": lambda: dpop(htm="POST"),
    "htm: in lower case": lambda: dpop(htm="get"),
    "htm: none": lambda: dpop(htm=ABSENT),
    "htu: of another host": lambda: dpop(htu=f"https://evil.test{PATH}"),
    "htu: of the inner hop": lambda: dpop(htu=f"http://{HOST}{PATH}"),
    "htu: another path": lambda: dpop(htu=f"https://{HOST}/items/2"),
    "htu: a longer path": lambda: dpop(htu=f"https://{HOST}{PATH}/2"),
    "htu: a trailing slash": lambda: dpop(htu=f"https://{HOST}{PATH}/"),
    "htu: none": lambda: dpop(htu=ABSENT),
    "htu: no URL": lambda: dpop(htu=PATH),
    "htu: with a query": lambda: dpop(htu=f"https://{HOST}{PATH}?a=1"),
    "htu: with a fragment": lambda: dpop(htu=f"https://{HOST}{PATH}#a"),
    "htu: with the default port": lambda: dpop(htu=f"https://{HOST}:443{PATH}"),
    "htu: with another port": lambda: dpop(htu=f"https://{HOST}:8443{PATH}"),
    "htu: in upper case": lambda: dpop(htu=f"HTTPS://API.TEST{PATH}"),
    "htu: with a user": lambda: dpop(htu=f"https://a:b@{HOST}{PATH}"),
    "htu: with dot segments": lambda: dpop(htu=f"https://{HOST}/items/x/../1"),
    "htu: with encoded dots": lambda: dpop(htu=f"https://{HOST}/items/x/%2e%2e/1"),
    "htu: a tilde that is encoded": lambda: dpop(path="/items/~a", htu=f"https://{HOST}/items/%7ea"),
    "htu: hexadecimal in lower case": lambda: dpop(path="/items/caf%C3%A9", htu=f"https://{HOST}/items/caf%c3%a9"),
    "htu: beyond ASCII": lambda: dpop(path="/items/caf%C3%A9", htu=f"https://{HOST}/items/café"),
    "htu: a slash that is encoded": lambda: dpop(path="/items/a/b", htu=f"https://{HOST}/items/a%2Fb"),
    "the request has a query": lambda: Access((one := dpop()).authorization, one.proof, path=f"{PATH}?q=1"),
    "iat: six minutes ago": lambda: dpop(iat=T - 360),
    "iat: almost five minutes ago": lambda: dpop(iat=T - 299),
    "iat: half a minute ahead": lambda: dpop(iat=T + 29),
    "iat: a minute ahead": lambda: dpop(iat=T + 60),
    "iat: six minutes ahead": lambda: dpop(iat=T + 360),
    "iat: a fraction": lambda: dpop(iat=T - 0.5),
    "iat: text": lambda: dpop(iat=str(T)),
    "iat: none": lambda: dpop(iat=ABSENT),
    "exp: a minute ago": lambda: dpop(exp=T - 60),
    "exp: ahead": lambda: dpop(exp=T + 60),
    "nbf: ahead": lambda: dpop(nbf=T + 60),
    "ath: none": lambda: dpop(ath=ABSENT),
    "ath: of another token": lambda: dpop(ath=token_hash(bound())),
    "ath: padded": lambda: dpop(held=(held := bound()), ath=token_hash(held) + "="),
    "a nonce that was not asked for": lambda: dpop(nonce="n"),
    "no proof": lambda: Access(f"DPoP {bound()}"),
    "two proofs": _two_proofs,
    "an empty proof": lambda: Access(f"DPoP {bound()}", ""),
    "the token as the proof": lambda: Access(f"DPoP {(held := bound())}", held),
    "a bound token as bearer": lambda: Access(f"Bearer {bound()}"),
    "a bound token as bearer, with its proof": lambda: Access(
        (one := dpop()).authorization.replace("DPoP", "Bearer"), one.proof
    ),
    "a free token as bearer, with a proof": lambda: Access(
        (one := dpop(held=token())).authorization.replace("DPoP", "Bearer"), one.proof
    ),
    "a free token with a proof": lambda: dpop(held=token()),
    "cnf: with another member": lambda: dpop(
        held=token(cnf={"jkt": thumbprint_of(dict(key().public())), "kc-jkt-type": "DPoP"})
    ),
    "an expired token": lambda: dpop(held=bound(exp=T - 60)),
    "the first use": _used_again,
    "the same proof again": _used_again,
}
REQUESTS: Final = {
    **{f"bearer: {name}": make() for name, make in BEARERS.items()},
    **{f"proof: {name}": make() for name, make in PROOFS.items()},
}
