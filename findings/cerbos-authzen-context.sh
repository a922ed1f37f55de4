#!/usr/bin/env bash
# An AuthZEN question has subject, action, resource and `context`, for what is of the request: time, address, step-up
# (Authorization API 1.0, section 5.4). Cerbos 0.55.0 answers such questions at /access/v1/evaluation.
# Expected: a policy can read the context somewhere, or a question with one is refused, as one with an unknown member is.
# Seen: it is accepted and dropped. No condition sees it, so a policy that ought to refuse by it allows. What a policy shall
# see of the request has to be sent as properties of the subject or the resource.
. "$(dirname "$0")/lib.sh"
npm_install @cerbos/cerbos-linux-x64@0.55.0
mkdir policies
cat > policies/order.yaml <<'YAML'
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: order
  version: default
  rules:
    - {actions: ["any"], effect: EFFECT_ALLOW, roles: ["user"]}
    - {actions: ["subject"], effect: EFFECT_ALLOW, roles: ["user"], condition: {match: {expr: "has(P.attr.address)"}}}
    - {actions: ["resource"], effect: EFFECT_ALLOW, roles: ["user"], condition: {match: {expr: "has(R.attr.address)"}}}
    - {actions: ["jwt"], effect: EFFECT_ALLOW, roles: ["user"], condition: {match: {expr: '"address" in request.auxData.jwt'}}}
YAML
cat > cerbos.yaml <<YAML
server: {httpListenAddr: "unix:$work/http", grpcListenAddr: "unix:$work/grpc"}
storage: {driver: disk, disk: {directory: "$work/policies", watchForChanges: false}}
telemetry: {disabled: true}
YAML
node_modules/@cerbos/cerbos-linux-x64/cerbos-linux-x64 server --config cerbos.yaml > cerbos.log 2>&1 &
server=$!
trap 'kill "$server"; wait "$server" || true; rm -rf "$work"' EXIT
for _ in $(seq 600); do curl --silent --fail --unix-socket http http://cerbos/_cerbos/health > health.txt 2> /dev/null && break; sleep 0.1; done

ask() { # SUBJECT'S PROPERTIES | RESOURCE'S PROPERTIES | ACTION | FURTHER MEMBERS
    curl --silent --unix-socket http --write-out ' (%{http_code})' --header 'content-type: application/json' \
        --data '{"subject": {"type": "user", "id": "eve", "properties": '"$1"'}, "resource": {"type": "order", "id": "7",
            "properties": '"$2"'}, "action": {"name": "'"$3"'"}'"$4"'}' http://cerbos/access/v1/evaluation
}
with=', "context": {"address": "192.0.2.1"}'
{
    echo "in the subject's properties: $(ask '{"address": "192.0.2.1"}' '{}' subject '')"
    echo "in the resource's properties: $(ask '{}' '{"address": "192.0.2.1"}' resource '')"
    for where in any subject resource jwt; do echo "in the context, read from $where: $(ask '{}' '{}' $where "$with")"; done
    echo "an unknown member: $(ask '{}' '{}' any ', "circumstances": {}' | sed 's/.*(/(/')"
} > seen.txt
compare seen.txt <<'SEEN'
in the subject's properties: {"decision":true} (200)
in the resource's properties: {"decision":true} (200)
in the context, read from any: {"decision":true} (200)
in the context, read from subject: {"decision":false} (200)
in the context, read from resource: {"decision":false} (200)
in the context, read from jwt: {"decision":false} (200)
an unknown member: (400)
SEEN
