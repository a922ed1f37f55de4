{{/* One of the two monitors, as its alerts know its series: by namespace and by the label of the pods. */}}
{{- define "authz-sidecar.checkMonitors" -}}
{{- $values := .Values.authz -}}
{{- if and $values.podMonitor.enabled $values.serviceMonitor.enabled -}}
  {{- fail "authz.podMonitor and authz.serviceMonitor are both enabled: every pod would be scraped twice" -}}
{{- end -}}
{{- if and $values.prometheusRule.enabled (not (or $values.podMonitor.enabled $values.serviceMonitor.enabled $values.prometheusRule.matchers)) -}}
  {{- fail "authz.prometheusRule.enabled without authz.podMonitor or authz.serviceMonitor: name the labels that your scrape configuration gives to the series of this release, as authz.prometheusRule.matchers: {namespace: shop, job: orders}" -}}
{{- end -}}
{{- end -}}

{{/* What both kinds of monitors say of the one port. */}}
{{- define "authz-sidecar.endpoint" -}}
port: {{ .port | default "authz-admin" }}
path: {{ .path | default "/metrics" }}
{{- with .interval }}
interval: {{ . }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "authz-sidecar.podMonitor" -}}
{{- $monitor := .Values.authz.podMonitor -}}
{{- if $monitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ include "authz-sidecar.fullname" . }}
  labels:
    {{- include "authz-sidecar.merge" (list (toYaml $monitor.labels) (include "authz-sidecar.labels" .)) | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "authz-sidecar.podLabels" . | nindent 6 }}
  # The label authz_sidecar_release of every series.
  podTargetLabels: [authz-sidecar/release]
  podMetricsEndpoints:
    - {{ include "authz-sidecar.endpoint" $monitor | nindent 6 | trim }}
    {{- with .Values.authz.envoyMetrics }}
    - {{ include "authz-sidecar.endpoint" (merge (dict) . $monitor) | nindent 6 | trim }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* The Service that a ServiceMonitor needs; no traffic passes through it. */}}
{{- define "authz-sidecar.metricsService" -}}
{{- if .Values.authz.serviceMonitor.enabled -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "authz-sidecar.fullname" . }}-metrics
  labels:
    {{- include "authz-sidecar.labels" . | nindent 4 }}
    app.kubernetes.io/component: metrics
spec:
  clusterIP: None
  ports:
    - name: authz-admin
      port: {{ int .Values.authz.adminPort }}
      targetPort: authz-admin
    {{- with .Values.authz.envoyMetrics }}
    - name: {{ .port }}
      port: {{ int .number }}
      targetPort: {{ .port }}
    {{- end }}
  selector:
    {{- include "authz-sidecar.podLabels" . | nindent 4 }}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.serviceMonitor" -}}
{{- $monitor := .Values.authz.serviceMonitor -}}
{{- if $monitor.enabled -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "authz-sidecar.fullname" . }}
  labels:
    {{- include "authz-sidecar.merge" (list (toYaml $monitor.labels) (include "authz-sidecar.labels" .)) | nindent 4 }}
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ include "authz-sidecar.name" . }}
      app.kubernetes.io/instance: {{ .Release.Name }}
      app.kubernetes.io/component: metrics
  # The label authz_sidecar_release of every series.
  podTargetLabels: [authz-sidecar/release]
  endpoints:
    - {{ include "authz-sidecar.endpoint" $monitor | nindent 6 | trim }}
    {{- with .Values.authz.envoyMetrics }}
    - {{ include "authz-sidecar.endpoint" (merge (dict) . $monitor) | nindent 6 | trim }}
    {{- end }}
{{- end -}}
{{- end -}}

{{/* What tells the series of this release from those of others, as matchers of PromQL. */}}
{{- define "authz-sidecar.matchers" -}}
{{- $matchers := list -}}
{{- $labels := .Values.authz.prometheusRule.matchers | default (dict "namespace" .Release.Namespace "authz_sidecar_release" .Release.Name) -}}
{{- range $label := keys $labels | sortAlpha -}}
  {{- $matchers = append $matchers (printf "%s=%s" $label (get $labels $label | toString | quote)) -}}
{{- end -}}
{{- join ", " $matchers -}}
{{- end -}}

{{- define "authz-sidecar.prometheusRule" -}}
{{- $rule := .Values.authz.prometheusRule -}}
{{- if $rule.enabled -}}
{{- $matchers := include "authz-sidecar.matchers" . -}}
{{- $about := .Subcharts.authz.Chart -}}
{{- $runbooks := $rule.runbookUrl -}}
{{- if and (not $runbooks) $about.Home (not (contains "OWNER" $about.Home)) -}}
  {{- $runbooks = printf "%s/blob/v%s/deploy/observability/RUNBOOKS.md#%%s" $about.Home $about.AppVersion -}}
{{- end -}}
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: {{ include "authz-sidecar.fullname" . }}
  labels:
    {{- include "authz-sidecar.merge" (list (toYaml $rule.labels) (include "authz-sidecar.labels" .)) | nindent 4 }}
spec:
  groups:
    - name: {{ .Release.Namespace }}/{{ include "authz-sidecar.fullname" . }}
      rules:
        {{- range (first (.Subcharts.authz.Files.Get "files/alerts.yaml" | fromYaml).groups).rules }}
        {{- $alert := .alert }}
        {{- $own := get $rule.alerts .alert | default dict }}
        {{- if ne false (dig "enabled" true $own) }}
        {{- /* The scope of this release, and its thresholds. */}}
        {{- $expr := regexReplaceAll `\b(authz_[a-z_]+)([^a-z_{]|$)` .expr "${1}<all>${2}" }}
        {{- $expr = regexReplaceAll `\b(authz_[a-z_]+|envoy_http_[a-z_]+)\{` $expr "${1}{<these>, " }}
        {{- $expr = $expr | replace "<all>" (printf "{%s}" $matchers) | replace "<these>" $matchers }}
        {{- $texts := dict "expr" $expr "annotations" (toYaml .annotations) }}
        {{- range $name, $threshold := merge (dict) (dig "thresholds" dict $own) (.thresholds | default dict) }}
        {{- range $key, $text := $texts }}
        {{- $_ := set $texts $key (replace (printf "${%s}" $name) (toString $threshold) $text) }}
        {{- end }}
        {{- end }}
        {{- $annotations := fromYaml $texts.annotations }}
        {{- with $runbooks }}
        {{- $_ := set $annotations "runbook_url" (replace "%s" (lower $alert) .) }}
        {{- end }}
        - alert: {{ .alert }}
          expr: {{ $texts.expr | trim | quote }}
          for: {{ dig "for" .for $own }}
          labels:
            {{- $labels := dict "severity" (dig "severity" .labels.severity $own) "authz_sidecar_release" $.Release.Name }}
            {{- merge (dict) $rule.alertLabels $labels | toYaml | nindent 12 }}
          annotations:
            {{- toYaml $annotations | nindent 12 }}
        {{- end }}
        {{- end }}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.dashboard" -}}
{{- $dashboard := .Values.authz.grafanaDashboard -}}
{{- if $dashboard.enabled -}}
{{- $name := include "authz-sidecar.fullname" . -}}
{{- $made := .Subcharts.authz.Files.Get "files/dashboard.json" | fromJson -}}
{{- $_ := set $made "uid" (printf "%s/%s" .Release.Namespace $name | sha256sum | trunc 32) -}}
{{- $_ := set $made "title" (printf "authz %s/%s" .Release.Namespace .Release.Name) -}}
{{- range $variable := $made.templating.list -}}
  {{- $chosen := get (dict "namespace" $.Release.Namespace "release" $.Release.Name) $variable.name -}}
  {{- with $chosen -}}{{- $_ := set $variable "current" (dict "text" (list .) "value" (list .)) -}}{{- end -}}
{{- end -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ $name }}-dashboard
  labels:
    {{- include "authz-sidecar.merge" (list (toYaml $dashboard.labels) (include "authz-sidecar.labels" .)) | nindent 4 }}
data:
  # Grafana's loader puts the files of all releases into one folder.
  authz-{{ .Release.Namespace }}-{{ .Release.Name }}.json: |
    {{- $made | toPrettyJson | nindent 4 }}
{{- end -}}
{{- end -}}
