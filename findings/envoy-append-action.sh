#!/usr/bin/env bash
# `append_action` of an ext_authz answer says what becomes of a header that is there already, or is not; `append` is deprecated.
# Expected: it is followed wherever an answer names headers.
# Seen: on the request to the upstream every action overwrites or adds: ADD_IF_ABSENT replaces what the client sent,
# OVERWRITE_IF_EXISTS adds what was not there, APPEND_IF_EXISTS_OR_ADD does not append. On the response to the client
# (response_headers_to_add) the same actions are followed.
. "$(dirname "$0")/lib.sh"
envoy_server
ext_authz_service
python/bin/python > seen.txt <<'PYTHON'
from answer_checks import Service, allow, header
from run_envoy import Envoy, ext_authz

service = Service()
filter_, cluster = ext_authz()
with Envoy(filter_, clusters=[cluster]) as envoy:
    for action in ("ADD_IF_ABSENT", "APPEND_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS", "OVERWRITE_IF_EXISTS_OR_ADD"):
        # The upstream answers without x-plan, so the answer itself adds the first one.
        first = header("x-plan", "first")
        service.answer = allow(
            headers=[header("x-plan", "second", append_action=action), header("x-new", "second", append_action=action)],
            response_headers_to_add=[
                first,
                header("x-plan", "second", append_action=action),
                header("x-new", "second", append_action=action),
            ],
        )
        _, answer, received = envoy.get("/", "x-plan: first")
        print(action)
        for label, lines in (("request", received), ("response", answer)):
            print(f"    {label}:", *sorted(line for line in lines if line.startswith(("x-plan", "x-new"))), sep="  ")
PYTHON
compare seen.txt <<'SEEN'
ADD_IF_ABSENT
    request:  x-new: second  x-plan: second
    response:  x-new: second  x-plan: first
APPEND_IF_EXISTS_OR_ADD
    request:  x-new: second  x-plan: second
    response:  x-new: second  x-plan: first  x-plan: second
OVERWRITE_IF_EXISTS
    request:  x-new: second  x-plan: second
    response:  x-plan: second
OVERWRITE_IF_EXISTS_OR_ADD
    request:  x-new: second  x-plan: second
    response:  x-new: second  x-plan: second
SEEN
