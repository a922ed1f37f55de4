#!/usr/bin/env bash
# `key: null` in values of a user takes a key of the chart's values away. A chart's own values.yaml may have null too, to show
# that a key exists; a template then tells "not set" by `hasKey` or by `toYaml`.
# Expected: Helm 3 and Helm 4 give a template the same values.
# Seen: a null of the chart's own values.yaml reaches the template as null in Helm 3, and is left out in Helm 4: hasKey is
# true in one and false in the other, and a configuration that is written with toYaml has the key or lacks it.
. "$(dirname "$0")/lib.sh"
helm_3_and_4
mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 1.0.0\n' > chart/Chart.yaml
printf 'server:\n  listen: socket\n  tls: null\n' > chart/values.yaml
cat > chart/templates/all.yaml <<'YAML'
{{ .Values.server | toYaml }}
hasKey: {{ hasKey .Values.server "tls" }}
YAML
for helm in helm3 helm4; do
    echo "$helm"
    "./$helm" template release chart | grep -E '^(listen|tls|hasKey)' | sed 's/^/    /'
done > seen.txt
compare seen.txt <<'SEEN'
helm3
    listen: socket
    tls: null
    hasKey: true
helm4
    listen: socket
    hasKey: false
SEEN
