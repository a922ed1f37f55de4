"""J: each cause that REASONS lists for a proof of possession (DPoP), by the words of the page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from authz.core.dpop import Nonces, Possession, ProofRules, ProofUse
from authz.core.key import thumbprint_of
from authz.core.needs import PROOF, Need
from authz.core.snapshot import Snapshot, TokenRules
from authz.core.token import HeaderSource
from tests.fixtures import ABSENT, T, issuer_a, make_snapshot, mint, rule
from tests.proofs import key, prove, token_hash

Row = tuple[None, Snapshot, dict[str, Any]]

HTU: Final = "https://api.test/items/1"
JKT: Final = thumbprint_of(dict(key().public()))
BOUND: Final = mint(cnf={"jkt": JKT})
FREE: Final = mint()
NONCES: Final = Nonces(b"secret of all replicas")


def world(possession: Possession = Possession.ALLOWED, *, bound: bool = False, **rules: Any) -> Snapshot:  # noqa: ANN401
    """Return a snapshot whose issuer A binds tokens to keys; *rules* are of its proofs."""
    a = replace(issuer_a(), possession=possession, proofs=ProofRules(**rules))
    sources = (HeaderSource("authorization", "Bearer"), HeaderSource("authorization", "DPoP"))
    token = TokenRules(sources=sources, schemes=("Bearer", "DPoP"), strip_proofs=True)
    return make_snapshot(rule("all", "/**", bound=bound), a=a, token=token)


def proof(token: str = BOUND, **changes: Any) -> str:  # noqa: ANN401
    """Write a proof for GET /items/1 and *token*, with changes."""
    return prove(**{"htu": HTU, "ath": token_hash(token), **changes})


def sent(
    written: str | None,
    token: str = BOUND,
    *,
    scheme: str = "DPoP",
    where: Snapshot | None = None,
    **others: Any,  # noqa: ANN401
) -> Row:
    """Return a row: a token under *scheme*, and the proof beside it."""
    headers = {"authorization": f"{scheme} {token}"} | ({} if written is None else {"dpop": written})
    return None, where or world(), {"headers": headers, **others}


def _used(use: ProofUse) -> dict[Need, object]:
    """Return the fact about proofs of our key with the usual id."""
    return {Need(PROOF, "a", token_hash(f"{JKT}.an id")): use}


BOUND_CAUSES: Final[dict[str, dict[str, Row]]] = {
    "an issuer without `dpop`": {
        "dpop-off": sent(None, scheme="Bearer", where=world(Possession.OFF)),
        "dpop-off-by-scheme": sent(proof(), where=world(Possession.OFF)),
    },
    "the client uses a bound token as a bearer token": {"as-bearer": sent(None, scheme="Bearer")},
    "the client proves possession for a token that is not bound": {"not-bound": sent(proof(FREE), FREE)},
    "`dpop: required`, or `require.bound`": {
        "required": sent(None, FREE, scheme="Bearer", where=world(Possession.REQUIRED)),
        "by-the-rule": sent(None, FREE, scheme="Bearer", where=world(bound=True)),
    },
}
PROOF_CAUSES: Final[dict[str, dict[str, Row]]] = {
    "the client sends none, or several": {"none": sent(None), "two": sent(f"{proof()},{proof()}")},
    "the client sends a proof beside a bearer token": {"beside-bearer": sent(proof(FREE), FREE, scheme="Bearer")},
    "not a proof": {
        "opaque": sent("proof"),
        "odd": sent("a.b.c"),
        "padded": sent(f"{proof()}="),
        "wrong-type": sent(proof(header={"typ": "JWT"})),
        "no-json": sent(f"e30.{proof().split('.', 1)[1]}"),
        "no-payload": sent(key().sign_bytes(b"[]", header=b'{"alg":"ES256","typ":"dpop+jwt"}')),
        "too-long": sent(proof(jti="x" * 9000)),
    },
    "an algorithm that is not in `dpop.algorithms`, or of another key": {
        "symmetric": sent(proof(header={"alg": "HS256"})),
        "of-another-key": sent(proof(header={"alg": "RS256"})),
    },
    "the key is missing, private, weak or malformed": {"no-key": sent(proof(header={"jwk": ABSENT}))},
    "signed by another key, or changed on the way": {
        "signature": sent(proof()[:-6] + ("AAAAAA" if proof()[-6:] != "AAAAAA" else "BBBBBB")),
        "another-key": sent(proof(mint(cnf={"jkt": "x"})), mint(cnf={"jkt": "x"})),
    },
    "made for another request": {"method": sent(proof(htm="POST")), "url": sent(proof(htu="http://api.test/items/1"))},
    "made for another token": {"other-token": sent(proof(FREE))},
    "a client that names no token": {"no-token": sent(proof(ath=ABSENT))},
    "the client leaves out what RFC 9449 requires": {
        "no-id": sent(proof(jti=ABSENT)),
        "no-time": sent(proof(iat=ABSENT)),
        "time-as-text": sent(proof(iat="now")),
    },
    "old, or a wrong clock": {
        "old": sent(proof(iat=T - 400)),
        "ahead": sent(proof(iat=T + 60)),
        "expired": sent(proof(exp=T - 60)),
        "not-yet": sent(proof(nbf=T + 60)),
    },
    "a nonce that is not ours": {"foreign-nonce": sent(proof(nonce="x"))},
    "by the client, a proxy that retries, or a thief": {"again": sent(proof(), facts=_used(ProofUse.REPLAYED))},
}
NONCE_CAUSES: Final[dict[str, dict[str, Row]]] = {
    "a wrong clock, or an old nonce": {
        "old": sent(proof(iat=T - 400), where=world(nonces=NONCES)),
        "ahead": sent(proof(iat=T + 60), where=world(nonces=NONCES)),
        "old-nonce": sent(proof(nonce="x"), where=world(nonces=NONCES)),
    },
    "`dpop.nonces: always`": {
        "without": sent(proof(), where=world(nonces=NONCES, require_nonce=True)),
    },
}
