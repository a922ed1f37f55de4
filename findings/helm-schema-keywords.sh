#!/usr/bin/env bash
# values.schema.json may name its draft; keywords of later drafts than 07 are e.g. unevaluatedProperties and dependentRequired.
# Expected: both supported Helms enforce what the schema says, or refuse a draft that they do not know.
# Seen: Helm 3 reads a schema of draft 2020-12 without complaint and enforces only the keywords that draft-07 has: a misspelt
# value passes "unevaluatedProperties": false, and a missing one "dependentRequired". Helm 4 refuses the same values.
. "$(dirname "$0")/lib.sh"
helm_3_and_4
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
cat > chart/values.schema.json <<'JSON'
{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "properties": {
    "replicas": {"type": "integer"},
    "tls": {"type": "object", "dependentRequired": {"certificate": ["key"]}},
    "issuer": {"allOf": [{"properties": {"url": {"type": "string"}}}], "unevaluatedProperties": false}
  }
}
JSON
for helm in helm3 helm4; do
    for values in '{"replicas": "two"}' '{"tls": {"certificate": "c"}}' '{"issuer": {"url": "u", "audiances": ["a"]}}'; do
        echo "$values" > values.json
        if "./$helm" template release chart --values values.json > out.txt 2>&1; then verdict=accepted; else verdict=refused; fi
        echo "$helm $values: $verdict"
    done
done > seen.txt
compare seen.txt <<'SEEN'
helm3 {"replicas": "two"}: refused
helm3 {"tls": {"certificate": "c"}}: accepted
helm3 {"issuer": {"url": "u", "audiances": ["a"]}}: accepted
helm4 {"replicas": "two"}: refused
helm4 {"tls": {"certificate": "c"}}: refused
helm4 {"issuer": {"url": "u", "audiances": ["a"]}}: refused
SEEN
