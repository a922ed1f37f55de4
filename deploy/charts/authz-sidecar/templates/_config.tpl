{{/* The configuration file, with what the chart alone can know: where to listen. */}}
{{- define "authz-sidecar.config" -}}
{{- $values := .Values.authz -}}
{{- $server := ($values.config | default dict).server | default $values.configServer | default dict -}}
{{- if $values.tcp -}}
  {{- $server = merge (dict "listen" (printf "%s:%d" $values.tcp.host (int $values.tcp.port))) $server -}}
  {{- with $values.tcp.tls -}}{{- $server = merge (dict "tls" .) $server -}}{{- end -}}
{{- else -}}
  {{- $server = merge (dict "listen" (printf "unix:%s/authz.sock" $values.socket.directory) "socket_mode" "0660") $server -}}
{{- end -}}
{{- $own := dict "server" $server "admin" (dict "listen" (printf "%s:%d" (include "authz-sidecar.everywhere" .) (int $values.adminPort))) -}}
{{- if $values.receiver.enabled -}}
  {{- $_ := set $own "receivers" (dict "listen" (printf "%s:%d" (include "authz-sidecar.receiverHost" .) (int $values.receiver.port))) -}}
{{- end -}}
{{- if $values.configText -}}
# authz.configText, as it was given.
{{ $values.configText | trimSuffix "\n" }}
# Written by the chart.
{{ toYaml $own }}
{{- else -}}
{{- toYaml (merge $own (deepCopy $values.config)) -}}
{{- end -}}
{{- end -}}

{{/* Every address of the pod. With IPv6 one socket takes both. */}}
{{- define "authz-sidecar.everywhere" -}}
{{- ternary "[::]" "0.0.0.0" .Values.authz.ipv6 -}}
{{- end -}}

{{/* Behind the Envoy of the pod loopback is enough; a server is reached from elsewhere. */}}
{{- define "authz-sidecar.receiverHost" -}}
{{- with .Values.authz.tcp -}}{{ .host }}{{- else -}}127.0.0.1{{- end -}}
{{- end -}}

{{- define "authz-sidecar.configMap" -}}
{{- include "authz-sidecar.check" . -}}
{{- if or .Values.authz.config .Values.authz.configText -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "authz-sidecar.fullname" . }}
  labels:
    {{- include "authz-sidecar.labels" . | nindent 4 }}
data:
  authz.yaml: |
    {{- include "authz-sidecar.config" . | nindent 4 }}
{{- end -}}
{{- end -}}

{{/* All objects that are not part of the pod. */}}
{{- define "authz-sidecar.manifests" -}}
{{- range tuple "configMap" "podMonitor" "metricsService" "serviceMonitor" "prometheusRule" "dashboard" }}
{{- with include (printf "authz-sidecar.%s" .) $ }}
---
{{ . }}
{{- end }}
{{- end }}
{{- end -}}
