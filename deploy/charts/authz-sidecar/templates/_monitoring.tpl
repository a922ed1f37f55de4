{{- define "authz-sidecar.podMonitor" -}}
{{- $monitor := .Values.authz.podMonitor -}}
{{- if $monitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "authz-sidecar.fullname" . }}
  labels:
    {{- include "authz-sidecar.labels" . | nindent 4 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "authz-sidecar.podLabels" . | nindent 6 }}
  podMetricsEndpoints:
    - port: authz-admin
      path: /metrics
      {{- with $monitor.interval }}
      interval: {{ . }}
      {{- end }}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.prometheusRule" -}}
{{- $rule := .Values.authz.prometheusRule -}}
{{- if $rule.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "authz-sidecar.fullname" . }}
  labels:
    {{- include "authz-sidecar.labels" . | nindent 4 }}
    {{- with $rule.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  groups:
    - name: {{ include "authz-sidecar.fullname" . }}
      rules:
        {{- range (first (.Subcharts.authz.Files.Get "files/alerts.yaml" | fromYaml).groups).rules }}
        - alert: {{ .alert }}
          expr: {{ .expr | trim | quote }}
          for: {{ .for }}
          labels:
            {{- toYaml (merge (dict) ($rule.alertLabels | default dict) .labels) | nindent 12 }}
          annotations:
            {{- toYaml .annotations | nindent 12 }}
        {{- end }}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.dashboard" -}}
{{- $dashboard := .Values.authz.grafanaDashboard -}}
{{- if $dashboard.enabled -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "authz-sidecar.fullname" . }}-dashboard
  labels:
    {{- include "authz-sidecar.labels" . | nindent 4 }}
    {{- with $dashboard.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
data:
  authz.json: |
    {{- .Subcharts.authz.Files.Get "files/dashboard.json" | nindent 4 }}
{{- end -}}
{{- end -}}
