#!/usr/bin/env bash
# An ext_authz service answers with headers, each with `append`: "true" adds to what is there, "false" replaces it.
# Expected: a header with `append: true` that is not there yet is added, on an allow and on a denial; with two
# `www-authenticate` headers the client sees both challenges.
# Seen: a header with `append: true` that is not there yet is left out. A denial whose challenges are all appended reaches
# the client as a 401 without any challenge. `append_action: APPEND_IF_EXISTS_OR_ADD` keeps both on a denial.
. "$(dirname "$0")/lib.sh"
envoy_server
ext_authz_service
python/bin/python > seen.txt <<'PYTHON'
from answer_checks import Service, allow, deny, header
from run_envoy import Envoy, ext_authz

service = Service()
filter_, cluster = ext_authz()
with Envoy(filter_, clusters=[cluster]) as envoy:
    for how in ({}, {"append": True}, {"append": False}, {"append_action": "APPEND_IF_EXISTS_OR_ADD"}):
        service.answer = allow(headers=[header("x-groups", "b", **how)])
        absent = envoy.get("/")[2]
        present = envoy.get("/", "x-groups: a")[2]
        service.answer = deny(header("www-authenticate", "Bearer", **how), header("www-authenticate", "DPoP", **how))
        status, denied, _ = envoy.get("/")
        print(how or "nothing said")
        print("    allow, not there yet:", *(line for line in absent if line.startswith("x-groups")))
        print("    allow, there:", *(line for line in present if line.startswith("x-groups")))
        print("    deny, two challenges:", status, *(line for line in denied if line.startswith("www-auth")))
PYTHON
compare seen.txt <<'SEEN'
nothing said
    allow, not there yet: x-groups: b
    allow, there: x-groups: b
    deny, two challenges: 401 www-authenticate: Bearer www-authenticate: DPoP
{'append': True}
    allow, not there yet:
    allow, there: x-groups: a,b
    deny, two challenges: 401
{'append': False}
    allow, not there yet: x-groups: b
    allow, there: x-groups: b
    deny, two challenges: 401 www-authenticate: Bearer www-authenticate: DPoP
{'append_action': 'APPEND_IF_EXISTS_OR_ADD'}
    allow, not there yet: x-groups: b
    allow, there: x-groups: b
    deny, two challenges: 401 www-authenticate: Bearer www-authenticate: DPoP
SEEN
