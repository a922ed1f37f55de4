#!/usr/bin/env bash
# A reader of a key set should pass over keys whose `kty` it does not know (RFC 7517, section 5), so that an issuer can publish a
# key of a new kind, such as AKP for ML-DSA (RFC 9964), before anyone signs with it.
# Expected: the libraries of Go's services verify a token by the key that they know, with an AKP key beside it.
# Seen: go-jose, jwx and keyfunc each refuse the whole set, so every token of the issuer is refused from the minute at which
# the new key is published, until it is taken away again.
. "$(dirname "$0")/lib.sh"
pip_install python jwcrypto==1.6.1
cp "$findings/key_sets/main.go" main.go
go_module github.com/go-jose/go-jose/v4@v4.1.9 github.com/lestrrat-go/jwx/v3@v3.4.0 \
    github.com/MicahParks/keyfunc/v3@v3.9.2 github.com/golang-jwt/jwt/v5@v5.3.1
python/bin/python <<'PYTHON'
from pathlib import Path

from jwcrypto.common import base64url_encode

from make_token import key_set, token

# The public key of ML-DSA-44 has 1312 octets.
new = {"kty": "AKP", "alg": "ML-DSA-44", "use": "sig", "kid": "next", "pub": base64url_encode(bytes(range(256)) * 5 + bytes(32))}
Path("today.json").write_text(key_set())
Path("tomorrow.json").write_text(key_set(new))
Path("token.jwt").write_text(token())
PYTHON
go build -o verify .
for set in today tomorrow; do echo "$set"; ./verify $set.json token.jwt; done > seen.txt
compare seen.txt <<'SEEN'
today
    go-jose: verified
    jwx: verified
    keyfunc: verified
tomorrow
    go-jose: the whole set is refused
    jwx: the whole set is refused
    keyfunc: the whole set is refused
SEEN
