"""Our verdicts beside those of two verifiers on Node, of the same requests: they differ only where the table says so.

oauth4webapi.validateJwtAccessToken holds to RFC 9068 and RFC 9449; express-oauth2-jwt-bearer is what many APIs run.
Neither remembers used proofs. Each is set up as a careful user does it, and all decide at the same instant.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

import pytest

from authz.core.decision import Allow
from tests.attacks.access_requests import HOST, REQUESTS, Access
from tests.attacks.test_proofs import Process
from tests.cases.proofs import NONCES, world
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import A_EC, A_RSA, A, T, ask, jwks
from tests.tools import TOOLS, path
from tests.unit.envoy.asking import write_check

pytestmark = pytest.mark.needs("node", "oauth4webapi", "express-oauth2-jwt-bearer")

PROGRAM: Final = Path(__file__).with_name("verifiers.mjs")
OAUTH, EXPRESS = "oauth4webapi", "express"
BOTH: Final = frozenset({OAUTH, EXPRESS})

# Each request about which they differ: who allows it, and why we do what we do.
WE_REFUSE: Final[dict[str, tuple[frozenset[str], str]]] = {
    "bearer: typ: of a logout token": (frozenset({EXPRESS}), "RFC 8725 section 3.11: one kind of token is no other"),
    "bearer: typ: of a proof": (frozenset({EXPRESS}), "the same"),
    "bearer: typ: of an event": (frozenset({EXPRESS}), "the same"),
    "bearer: sub: none": (frozenset({EXPRESS}), "RFC 9068 section 2.2 requires it, and our rules as they are"),
    "bearer: sub: empty": (BOTH, "an empty subject is none"),
    "bearer: iat: ahead": (BOTH, "a token from the future has a wrong clock behind it, or a forger"),
    "bearer: exp: now": (frozenset({OAUTH}), "RFC 7519 section 4.1.4: on or after that time it is expired"),
    "bearer: exp: in milliseconds": (BOTH, "RFC 7519 section 2: seconds; read as such it lives for 50,000 years"),
    "bearer: aud: a list with a number": (BOTH, "RFC 7519 section 4.1.3: an array of strings"),
    "bearer: crit: b64": (frozenset({EXPRESS}), "RFC 7797 section 7: not in a JWT"),
    "bearer: a member twice": (BOTH, "two parsers may read two subjects"),
    "bearer: padding": (BOTH, "RFC 7515 section 2: one spelling for each token"),
    "bearer: cnf: empty": (BOTH, "bound to something that cannot be checked"),
    "bearer: cnf: of a certificate": (frozenset({EXPRESS}), "RFC 8705 section 3: not without the certificate"),
    "bearer: cnf: a text": (frozenset({EXPRESS}), "RFC 7800 section 3.1: an object"),
    "proof: jwk: with another alg": (frozenset({EXPRESS}), "RFC 7517 section 4.4: what the key is for"),
    "proof: jti: empty": (frozenset({OAUTH}), "RFC 9449 section 4.2: a unique identifier"),
    "proof: jti: a number": (frozenset({EXPRESS}), "RFC 7519 section 4.1.7: a string"),
    "proof: htm: in lower case": (frozenset({EXPRESS}), "RFC 9110 section 9.1: methods are case-sensitive"),
    "proof: iat: a minute ahead": (frozenset({OAUTH}), "more than max_ahead; the client gets a nonce, and repeats it"),
    "proof: a nonce that was not asked for": (BOTH, "of another server; the client gets one of ours, and repeats it"),
    "proof: the same proof again": (BOTH, "RFC 9449 section 11.1: they remember none"),
}
WE_ALLOW: Final[dict[str, tuple[frozenset[str], str]]] = {
    "bearer: two spaces": (frozenset({OAUTH}), "RFC 9110 section 11.4: one or more"),
    "bearer: typ: JWT": (frozenset({EXPRESS}), "issuers that are older than RFC 9068; token_types may be stricter"),
    "bearer: typ: none": (frozenset({EXPRESS}), "the same"),
    "bearer: jti: none": (frozenset({EXPRESS}), "the same, with required_claims"),
    "bearer: client_id: none": (frozenset({EXPRESS}), "the same"),
    "bearer: client_id: a number": (frozenset(), "no client by that claim: only what a rule reads must have its type"),
    "bearer: iat: none": (frozenset({EXPRESS}), "the same as jti"),
    "proof: Ed25519": (frozenset({OAUTH}), "RFC 9864; that list has only its older name"),
    "proof: htu: with a user": (frozenset({EXPRESS}), "three clients send it, and it names no other resource"),
    "proof: htu: a tilde that is encoded": (frozenset({EXPRESS}), "RFC 3986 section 6.2.2.2, as RFC 9449 section 4.3"),
    "proof: htu: hexadecimal in lower case": (frozenset({EXPRESS}), "RFC 3986 section 6.2.2.1"),
    "proof: cnf: with another member": (frozenset({EXPRESS}), "Keycloak adds kc-jkt-type"),
}


def ours() -> frozenset[str]:
    """Return the names of the requests that we allow."""
    process = Process(world(nonces=NONCES))
    return frozenset(name for name, request in REQUESTS.items() if isinstance(process.decide(write(request)), Allow))


def write(request: Access) -> bytes:
    """Write the request as Envoy asks about it."""
    return write_check(ask(headers=request.headers, path=request.path, method=request.method, host=HOST))


def theirs() -> dict[str, frozenset[str]]:
    """Return the names of the requests that each verifier allows."""
    asked = [
        {"name": name, "method": request.method, "url": request.url, "headers": request.headers}
        for name, request in REQUESTS.items()
    ]
    keys = json.loads(jwks(A_RSA, A_EC))
    given = {"now": T, "issuer": A, "audience": "api", "jwks": keys, "requests": asked}
    done = subprocess.run(
        [path("node"), str(PROGRAM), str(TOOLS / "node_modules")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, dict[str, str]] = json.loads(done.stdout)
    return {
        verifier: frozenset(name for name, why in verdicts.items() if not why) for verifier, verdicts in said.items()
    }


def test_verdicts_differ_only_as_the_table_says() -> None:
    """Each request is allowed by all or by none, or exactly by those that its row names; and each row is such one."""
    we, others = ours(), theirs()
    assert others.keys() == BOTH
    found = {}
    for name in REQUESTS:
        allowers = frozenset(verifier for verifier, allowed in others.items() if name in allowed)
        if allowers != (BOTH if name in we else frozenset()):
            found[name] = (name in we, allowers)
    assert found == {
        **{name: (False, allowers) for name, (allowers, _) in WE_REFUSE.items()},
        **{name: (True, allowers) for name, (allowers, _) in WE_ALLOW.items()},
    }


def test_each_verifier_allows_and_refuses_most() -> None:
    """The comparison proves something: good tokens and proofs of every form pass, and a third of all is refused."""
    for allowed in (ours(), *theirs().values()):
        assert {"bearer: a token", "bearer: ES256", "proof: a proof", "proof: RS256", "proof: EdDSA"} <= allowed
        assert len(REQUESTS) / 3 < len(REQUESTS.keys() - allowed) < len(REQUESTS) * 2 / 3
