{{/* A value as an expression of CEL. Its maps and lists hold one type each, hence dyn. */}}
{{- define "injection.cel" -}}
{{- if kindIs "map" . -}}
  {{- $members := list -}}
  {{- range $key, $value := . -}}
    {{- $members = append $members (printf "%s: dyn(%s)" (toJson $key) (include "injection.cel" $value)) -}}
  {{- end -}}
  {{- printf "{%s}" (join ", " $members) -}}
{{- else if kindIs "slice" . -}}
  {{- $items := list -}}
  {{- range . -}}{{- $items = append $items (printf "dyn(%s)" (include "injection.cel" .)) -}}{{- end -}}
  {{- printf "[%s]" (join ", " $items) -}}
{{- else -}}
  {{- toJson . -}}
{{- end -}}
{{- end -}}

{{/* The name that stands for the pod's own ConfigMap, until the expression puts it in. */}}
{{- define "injection.placeholder" -}}config-map-of-the-pod{{- end -}}

{{- define "injection.prepare" -}}
{{- $values := .Values.authz -}}
{{- if or $values.config $values.configText -}}
  {{- fail "authz.config and authz.configText go with the charts authz and authz-sidecar: here each namespace brings its ConfigMap, and authz.existingConfigMap names it" -}}
{{- end -}}
{{- if not $values.nativeSidecar -}}
  {{- fail "authz.nativeSidecar must be true: the sidecar starts before Envoy wherever Envoy stands" -}}
{{- end -}}
{{- if or $values.podMonitor.enabled $values.serviceMonitor.enabled $values.prometheusRule.enabled $values.grafanaDashboard.enabled -}}
  {{- fail "monitors, alerts and the dashboard belong to a namespace: enable them in a release of the chart authz with mode config-only there" -}}
{{- end -}}
{{- if include "authz-sidecar.imagePullSecrets" . -}}
  {{- fail "authz.imagePullSecrets and global.imagePullSecrets cannot be given to pods of other namespaces: they, or their service accounts, name their own" -}}
{{- end -}}
{{- include "authz-sidecar.check" . -}}
{{- end -}}

{{/*
The library's container. The API server mounts a token of the pod's service account into every container that has nothing
in its place; the sidecar needs none, and has its configuration there.
*/}}
{{- define "injection.container" -}}
{{- $container := include "authz-sidecar.initContainers" . | fromYamlArray | first -}}
{{- $place := "/var/run/secrets/kubernetes.io/serviceaccount" -}}
{{- $taken := false -}}
{{- range $container.volumeMounts -}}{{- $taken = or $taken (eq .mountPath $place) -}}{{- end -}}
{{- if not $taken -}}
  {{- $mount := dict "name" "authz-config" "mountPath" $place "readOnly" true -}}
  {{- $_ := set $container "volumeMounts" (append $container.volumeMounts $mount) -}}
{{- end -}}
{{- toYaml $container -}}
{{- end -}}

{{/* The library's volumes as a list, with the placeholder for the ConfigMap. */}}
{{- define "injection.volumes" -}}
{{- $values := merge (dict "existingConfigMap" (include "injection.placeholder" .)) .Values.authz -}}
{{- include "authz-sidecar.volumes" (dict "Values" (dict "authz" $values) "Subcharts" .Subcharts "Release" .Release) -}}
{{- end -}}

{{/*
What both policies know of a pod: who asks for what, and why it could not be served, as a list of reasons. The second
sees the pod after the first, so of one that was served there is nothing to say.
*/}}
{{- define "injection.variables" -}}
{{- $names := list -}}
{{- range include "injection.volumes" . | fromYamlArray -}}{{- $names = append $names .name -}}{{- end -}}
{{- $port := int .Values.authz.adminPort -}}
{{- $folder := .Values.authz.socket.directory -}}
- name: annotations
  expression: 'has(object.metadata.annotations) ? object.metadata.annotations : {}'
- name: config
  expression: variables.annotations[?"authz-sidecar/config"].orValue({{ .Values.authz.existingConfigMap | quote }})
- name: envoy
  expression: variables.annotations[?"authz-sidecar/envoy-container"].orValue({{ .Values.envoyContainer | quote }})
- name: names
  expression: object.spec.containers.map(c, c.name)
- name: initNames
  expression: 'has(object.spec.initContainers) ? object.spec.initContainers.map(c, c.name) : []'
- name: all
  expression: '(has(object.spec.initContainers) ? dyn(object.spec.initContainers) : dyn([])) + dyn(object.spec.containers)'
- name: mounts
  expression: variables.all.filter(c, c.name == variables.envoy && has(c.volumeMounts)).map(c, c.volumeMounts)
- name: present
  expression: '"authz" in variables.initNames'
- name: problems
  expression: >-
    variables.present ? [] :
    (variables.all.exists(c, c.name == variables.envoy) ? [] :
    ["no container is named " + variables.envoy + ": name Envoy's container in the annotation authz-sidecar/envoy-container; there are "
    + (variables.initNames + variables.names).join(", ")])
    + ("authz" in variables.names ? ["a container is named authz already"] : [])
    + (has(object.spec.volumes) ? {{ $names | toJson }}.filter(name, object.spec.volumes.exists(v, v.name == name))
    .map(name, "a volume is named " + name + " already") : [])
    + (variables.mounts.exists(all, all.exists(m, m.mountPath == {{ $folder | quote }})) ?
    [variables.envoy + " mounts another volume at {{ $folder }}"] : [])
    + (variables.all.exists(c, has(c.ports) && c.ports.exists(p, p.containerPort == {{ $port }})) ?
    ["port {{ $port }}, the sidecar's admin port, is another container's"] : [])
    + (has(object.spec.hostNetwork) && object.spec.hostNetwork ? ["hostNetwork: the sidecar's admin port would be the node's"] : [])
    + (has(object.spec.os) && object.spec.os.name == "windows" ? ["os windows: the sidecar's image is for Linux"] : [])
{{- end -}}
