{{/* What the cluster has of this release. With `helm template`, which asks no cluster, it has nothing. */}}

{{- define "authz.liveDeployment" -}}
{{- lookup "apps/v1" "Deployment" .Release.Namespace (include "authz-sidecar.fullname" .) | toJson -}}
{{- end -}}

{{/*
The selector of the Deployment has the mode, and cannot change, no more than a Service can become headless: such an
upgrade would fail after ConfigMaps and policies were replaced under the old pods.
*/}}
{{- define "authz.checkMode" -}}
{{- $live := include "authz.liveDeployment" . | fromJson -}}
{{- $was := dig "spec" "selector" "matchLabels" "app.kubernetes.io/component" .Values.mode $live -}}
{{- if ne $was .Values.mode -}}
  {{- fail (printf "mode is %s, and this release is installed as %s: a release keeps its mode. Install another release beside it, move the traffic, then uninstall this one" .Values.mode $was) -}}
{{- end -}}
{{- end -}}

{{/*
The number of pods to write into the Deployment; empty: leave it as it is.

A field that leaves the manifest while Helm owns it is reset to one pod; and by server-side apply, which Helm 4 does,
one that another client set to another number is a conflict that ends every upgrade. So with an autoscaler the live
number is written as long as Helm owns the field, and no number otherwise.
*/}}
{{- define "authz.replicas" -}}
{{- $live := include "authz.liveDeployment" . | fromJson -}}
{{- if $live -}}
  {{- $applied := false -}}
  {{- $owned := false -}}
  {{- range dig "metadata" "managedFields" list $live -}}
    {{- /* Helm's own entry, whatever the binary is called: no other client applies the label of the chart. */ -}}
    {{- if and (eq .operation "Apply") (hasKey (dig "f:metadata" "f:labels" dict .fieldsV1) "f:helm.sh/chart") -}}
      {{- $applied = true -}}
      {{- $owned = hasKey (dig "f:spec" dict .fieldsV1) "f:replicas" -}}
    {{- end -}}
  {{- end -}}
  {{- $others := and $applied (not $owned) -}}
  {{- if .Values.autoscaling.enabled -}}
    {{- if not $others }}{{ int $live.spec.replicas }}{{ end -}}
  {{- else if not (and $others (ne (int $live.spec.replicas) (int .Values.replicaCount))) -}}
    {{- int .Values.replicaCount -}}
  {{- end -}}
{{- else if not .Values.autoscaling.enabled -}}
  {{- int .Values.replicaCount -}}
{{- end -}}
{{- end -}}
