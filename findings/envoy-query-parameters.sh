#!/usr/bin/env bash
# An ext_authz answer can set and remove query parameters of the request that goes on.
# Expected: to remove a parameter that is not there changes nothing; a value that is set is percent-encoded where it must be.
# Seen: any name in `query_parameters_to_remove` has the whole query written again, sorted by name and with "flag" as "flag=",
# which breaks a signature over the URL. A value that is set is written as it is: "R&D" becomes two parameters.
. "$(dirname "$0")/lib.sh"
envoy_server
ext_authz_service
python/bin/python > seen.txt <<'PYTHON'
from answer_checks import Service, allow
from run_envoy import Envoy, ext_authz

service = Service()
filter_, cluster = ext_authz()
with Envoy(filter_, clusters=[cluster]) as envoy:
    for change in (
        {},
        {"query_parameters_to_remove": ["debug"]},
        {"query_parameters_to_set": [{"key": "team", "value": "R&D"}]},
        {"query_parameters_to_set": [{"key": "team", "value": "R%26D"}]},
    ):
        service.answer = allow(**change)
        print(change or "no change", "->", envoy.get("/orders?z=1&flag&a=%7e")[2][0])
PYTHON
compare seen.txt <<'SEEN'
no change -> GET /orders?z=1&flag&a=%7e HTTP/1.1
{'query_parameters_to_remove': ['debug']} -> GET /orders?a=%7e&flag=&z=1 HTTP/1.1
{'query_parameters_to_set': [{'key': 'team', 'value': 'R&D'}]} -> GET /orders?a=%7e&flag=&team=R&D&z=1 HTTP/1.1
{'query_parameters_to_set': [{'key': 'team', 'value': 'R%26D'}]} -> GET /orders?a=%7e&flag=&team=R%26D&z=1 HTTP/1.1
SEEN
