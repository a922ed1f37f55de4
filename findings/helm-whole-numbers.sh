#!/usr/bin/env bash
# A chart writes a part of its values into a configuration with toYaml; a required claim can be a number, such as a tenant's.
# Expected: a whole number arrives as it was written, however it came into the values.
# Seen: in Helm 3 and 4, a number of values.yaml or of --set-json is a float on its way: 9007199254740993 becomes
# 9007199254740992, and printed without toYaml 1764000000 becomes 1.764e+09. The same number given by --set is exact.
. "$(dirname "$0")/lib.sh"
helm_3_and_4
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
printf 'claims:\n  tenant: 9007199254740993\n  issued: 1764000000\n' > chart/values.yaml
cat > chart/templates/all.yaml <<'YAML'
{{ .Values.claims | toYaml }}
printed: {{ .Values.claims.tenant }} {{ .Values.claims.issued }}
YAML
for helm in helm3 helm4; do
    for option in "" "--set claims.tenant=9007199254740993" "--set-json claims.tenant=9007199254740993"; do
        echo "$helm ${option:-values.yaml}"
        # shellcheck disable=SC2086
        "./$helm" template release chart $option | grep -E '^(tenant|issued|printed)' | sed 's/^/    /'
    done
done > seen.txt
compare seen.txt <<'SEEN'
helm3 values.yaml
    issued: 1764000000
    tenant: 9007199254740992
    printed: 9.007199254740992e+15 1.764e+09
helm3 --set claims.tenant=9007199254740993
    issued: 1764000000
    tenant: 9007199254740993
    printed: 9007199254740993 1.764e+09
helm3 --set-json claims.tenant=9007199254740993
    issued: 1764000000
    tenant: 9007199254740992
    printed: 9.007199254740992e+15 1.764e+09
helm4 values.yaml
    issued: 1764000000
    tenant: 9007199254740992
    printed: 9.007199254740992e+15 1.764e+09
helm4 --set claims.tenant=9007199254740993
    issued: 1764000000
    tenant: 9007199254740993
    printed: 9007199254740993 1.764e+09
helm4 --set-json claims.tenant=9007199254740993
    issued: 1764000000
    tenant: 9007199254740992
    printed: 9.007199254740992e+15 1.764e+09
SEEN
