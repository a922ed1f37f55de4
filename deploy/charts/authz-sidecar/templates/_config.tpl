{{/* The configuration file, with what the chart alone can know: where to listen. */}}
{{- define "authz-sidecar.config" -}}
{{- $values := .Values.authz -}}
{{- $config := deepCopy $values.config -}}
{{- $server := $config.server | default dict -}}
{{- if $values.tcp -}}
  {{- $server = merge (dict "listen" (printf "%s:%d" $values.tcp.host (int $values.tcp.port))) $server -}}
  {{- with $values.tcp.tls -}}{{- $server = merge (dict "tls" .) $server -}}{{- end -}}
{{- else -}}
  {{- $server = merge (dict "listen" (printf "unix:%s/authz.sock" $values.socket.directory) "socket_mode" "0660") $server -}}
{{- end -}}
{{- $admin := dict "listen" (printf "0.0.0.0:%d" (int $values.adminPort)) -}}
{{- toYaml (merge (dict "server" $server "admin" $admin) $config) -}}
{{- end -}}

{{- define "authz-sidecar.configMap" -}}
{{- include "authz-sidecar.check" . -}}
{{- if .Values.authz.config -}}
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
{{- range tuple "configMap" "podMonitor" "prometheusRule" "dashboard" }}
{{- with include (printf "authz-sidecar.%s" .) $ }}
---
{{ . }}
{{- end }}
{{- end }}
{{- end -}}
