#!/usr/bin/env bash
# Two Cookie fields of one request are one list of cookies. HTTP joins them by "; " where they must be one (RFC 9113, 8.2.3).
# Expected: an ext_authz service sees one `cookie` header with "; " between the two, as the upstream would read it.
# Seen: it sees them joined by ",", which is no separator of cookies: by RFC 6265 the second cookie is then a part of the
# first one's value. The upstream gets two fields. With `; ` in one field both see the same.
. "$(dirname "$0")/lib.sh"
envoy_server
ext_authz_service
python/bin/python > seen.txt <<'PYTHON'
from http.cookies import SimpleCookie

from answer_checks import Service, allow
from run_envoy import Envoy, ext_authz

service = Service()
service.answer = allow()
filter_, cluster = ext_authz()
with Envoy(filter_, clusters=[cluster]) as envoy:
    for fields in (["cookie: theme=dark", "cookie: session=s1"], ["cookie: theme=dark; session=s1"]):
        received = envoy.get("/", *fields)[2]
        cookie = service.http["headers"]["cookie"]
        print("sent:", *fields, sep=" | ")
        print("    upstream:", *(line for line in received if line.startswith("cookie")), sep=" | ")
        print("    service:", cookie, "-> session", "found" if "session" in SimpleCookie(cookie) else "not found", sep=" ")
PYTHON
compare seen.txt <<'SEEN'
sent: | cookie: theme=dark | cookie: session=s1
    upstream: | cookie: theme=dark | cookie: session=s1
    service: theme=dark,session=s1 -> session not found
sent: | cookie: theme=dark; session=s1
    upstream: | cookie: theme=dark; session=s1
    service: theme=dark; session=s1 -> session found
SEEN
