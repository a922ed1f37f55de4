{{/*
The parts of a pod. Include each at its place:

  spec.template.metadata.annotations   authz-sidecar.podAnnotations
  spec.template.metadata.labels        authz-sidecar.podLabels
  spec.template.spec.securityContext   authz-sidecar.podSecurityContext
  spec.template.spec.imagePullSecrets  authz-sidecar.imagePullSecrets     nothing if there are none
  initContainers, before Envoy         authz-sidecar.initContainers   nothing where nativeSidecar is false
  containers                           authz-sidecar.containers       nothing where nativeSidecar is true
  Envoy's volumeMounts                 authz-sidecar.envoyVolumeMounts
  volumes                              authz-sidecar.volumes
*/}}

{{/* The sidecar takes up a change of its configuration by itself, save for the addresses that it listens on. */}}
{{- define "authz-sidecar.podAnnotations" -}}
{{- if or .Values.authz.config .Values.authz.configText -}}
{{- $config := include "authz-sidecar.config" . -}}
{{- if not .Values.authz.restartOnConfigChange -}}
  {{- $config = pick (fromYaml $config) "server" "admin" "receivers" | toYaml -}}
{{- end -}}
authz-sidecar/config-checksum: {{ sha256sum $config }}
{{- end -}}
{{- end -}}

{{/* Without a group of the socket, the cluster gives one to the pod (OpenShift), or all containers have one user. */}}
{{- define "authz-sidecar.podSecurityContext" -}}
{{- $context := deepCopy .Values.authz.podSecurityContext -}}
{{- if and .Values.authz.socket.group (not (hasKey $context "fsGroup")) -}}
  {{- $_ := set $context "fsGroup" (int .Values.authz.socket.group) -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{/* The Restricted Pod Security Standard, and a read-only root file system. */}}
{{- define "authz-sidecar.securityContext" -}}
{{- toYaml .Values.authz.securityContext -}}
{{- end -}}

{{- define "authz-sidecar.initContainers" -}}
{{- if .Values.authz.nativeSidecar -}}
- {{ include "authz-sidecar.container" . | nindent 2 | trim }}
  # A native sidecar: what stands below starts after its startupProbe, and it stops after all of them.
  restartPolicy: Always
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.containers" -}}
{{- if not .Values.authz.nativeSidecar -}}
- {{ include "authz-sidecar.container" . | nindent 2 | trim }}
  {{- if and (not .Values.authz.envoy.adminAddress) (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) }}
  # Envoy and the sidecar get SIGTERM at the same moment: answer until Envoy has nothing more to ask.
  lifecycle:
    preStop:
      sleep: {seconds: {{ int .Values.authz.preStopSleepSeconds }}}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.container" -}}
{{- include "authz-sidecar.check" . -}}
{{- $values := .Values.authz -}}
name: authz
image: {{ include "authz-sidecar.image" . }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: [serve, --config, /etc/authz/authz.yaml]
{{- if or $values.otel $values.extraEnv }}
env:
  {{- if $values.otel }}
  # For OTEL_RESOURCE_ATTRIBUTES to refer to.
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - name: POD_NAMESPACE
    valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
  {{- end }}
  {{- range $name, $value := $values.otel }}
  - name: {{ $name }}
    value: {{ $value | toString | quote }}
  {{- end }}
  {{- with $values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with $values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  {{- if $values.tcp }}
  {{- range until (include "authz-sidecar.workers" . | int) }}
  - name: {{ ternary (printf "grpc-%d" .) "grpc" (gt . 0) }}
    containerPort: {{ add $values.tcp.port . }}
  {{- end }}
  {{- end }}
  {{- if and $values.tcp $values.receiver.enabled }}
  - name: receiver
    containerPort: {{ int $values.receiver.port }}
  {{- end }}
  - name: authz-admin
    containerPort: {{ int $values.adminPort }}
# It listens.
startupProbe:
  httpGet: {path: /livez, port: authz-admin}
  periodSeconds: {{ int $values.startupProbe.periodSeconds }}
  failureThreshold: {{ int $values.startupProbe.failureThreshold }}
# It has had the keys of every required issuer once.
readinessProbe:
  httpGet: {path: /readyz, port: authz-admin}
  periodSeconds: {{ int $values.readinessProbe.periodSeconds }}
  failureThreshold: {{ int $values.readinessProbe.failureThreshold }}
livenessProbe:
  httpGet: {path: /livez, port: authz-admin}
  periodSeconds: {{ int $values.livenessProbe.periodSeconds }}
  failureThreshold: {{ int $values.livenessProbe.failureThreshold }}
{{- with $values.envoy.adminAddress }}
# Runs as soon as the pod is to stop, for a native sidecar too, and while Envoy's own preStop sleeps: Envoy tells its
# clients to leave, then accepts no more, and what is in flight ends.
lifecycle:
  preStop:
    exec: {command: [/usr/bin/python3, -m, authz, drain-envoy, {{ . | quote }}, --wait, {{ add $values.envoy.drainSeconds 5 | quote }}]}
{{- end }}
securityContext:
  {{- include "authz-sidecar.securityContext" . | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
volumeMounts:
  # A folder and not a subPath: a change of the ConfigMap reaches the container.
  - name: authz-config
    mountPath: /etc/authz
    readOnly: true
  {{- if not $values.tcp }}
  - name: authz-socket
    mountPath: {{ $values.socket.directory }}
  {{- end }}
  {{- if gt (include "authz-sidecar.workers" . | int) 1 }}
  # Through sockets in a folder of its own there, the supervisor asks its workers.
  - name: authz-tmp
    mountPath: /tmp
  {{- end }}
  {{- if include "authz-sidecar.tokenFiles" . | fromJsonArray }}
  - name: authz-tokens
    mountPath: /var/run/secrets/tokens
    readOnly: true
  {{- end }}
  {{- range $values.signingSecrets }}
  - name: authz-signing-{{ . }}
    mountPath: /var/run/secrets/signing/{{ . }}
    readOnly: true
  {{- end }}
  {{- with $values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "authz-sidecar.envoyVolumeMounts" -}}
- name: authz-socket
  mountPath: {{ .Values.authz.socket.directory }}
{{- end -}}

{{- define "authz-sidecar.volumes" -}}
- name: authz-config
  configMap:
    name: {{ include "authz-sidecar.configMapName" . }}
{{- if not .Values.authz.tcp }}
- name: authz-socket
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.authz.socket.sizeLimit }}
{{- end }}
{{- if gt (include "authz-sidecar.workers" . | int) 1 }}
- name: authz-tmp
  emptyDir:
    medium: Memory
    sizeLimit: 1Mi
{{- end }}
{{- $tokens := include "authz-sidecar.tokenFiles" . | fromJsonArray }}
{{- if $tokens }}
- name: authz-tokens
  projected:
    defaultMode: 0440
    sources:
      {{- range $tokens }}
      - serviceAccountToken:
          path: {{ . }}
          expirationSeconds: {{ int $.Values.authz.issuerToken.expirationSeconds }}
          {{- with $.Values.authz.issuerToken.audience }}
          audience: {{ . | quote }}
          {{- end }}
      {{- end }}
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- range .Values.authz.signingSecrets }}
# The kubelet adds the group's right to read (0440) for the pod's fsGroup: without that, no user but root could read it.
- name: authz-signing-{{ . }}
  secret: {secretName: {{ . }}, defaultMode: 0400}
{{- end }}
{{- with .Values.authz.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Names of the projected tokens that issuers ask for, for keys or about tokens, and PDPs, as a JSON list. */}}
{{- define "authz-sidecar.tokenFiles" -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- $asked := values ($config.pdps | default dict) -}}
{{- range $name, $issuer := $config.issuers -}}
  {{- $asked = append (append $asked $issuer.fetch) ($issuer.introspection | default dict).client -}}
{{- end -}}
{{- $files := list -}}
{{- range $asked -}}
  {{- $file := get (. | default dict) "bearer_token_file" | default "" -}}
  {{- if hasPrefix "/var/run/secrets/tokens/" $file -}}
    {{- $files = append $files (base $file) -}}
  {{- end -}}
{{- end -}}
{{- $files | uniq | sortAlpha | toJson -}}
{{- end -}}
