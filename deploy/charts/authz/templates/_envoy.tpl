{{- define "authz.envoy" -}}
{{- $proxy := .Values.proxy -}}
- name: envoy
  image: {{ include "authz-sidecar.imageOf" (dict "root" . "image" $proxy.image "version" "") }}
  imagePullPolicy: {{ $proxy.image.pullPolicy }}
  command: [/usr/local/bin/envoy]
  args:
    - --config-path
    - /etc/envoy/envoy.yaml
    - --concurrency
    - {{ int $proxy.concurrency | quote }}
    - --log-level
    - warning
    # The access log, at most a second late.
    - --file-flush-interval-msec
    - "1000"
    # How long it accepts requests after the pod began to stop: clients are asked to leave meanwhile.
    - --drain-time-s
    - {{ max 1 (int $proxy.preStopSleepSeconds) | quote }}
    # Shared memory for a restart in place, which no container makes.
    - --disable-hot-restart
  {{- with $proxy.extraEnv }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $proxy.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: {{ ternary "https" "http" (not (empty $proxy.tls.existingSecret)) }}
      containerPort: {{ int $proxy.port }}
    - name: envoy-admin
      containerPort: {{ int $proxy.telemetryPort }}
  startupProbe:
    httpGet: {path: /live, port: envoy-admin}
    periodSeconds: 1
    failureThreshold: 30
  # Ready only while the sidecar serves; alive whatever the sidecar does.
  readinessProbe:
    httpGet: {path: /ready, port: envoy-admin}
    periodSeconds: 5
  livenessProbe:
    httpGet: {path: /live, port: envoy-admin}
    periodSeconds: 10
    failureThreshold: 6
  {{- if semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version }}
  # Requests go on coming until every router knows that this pod leaves; then those in flight end. The preStop of the
  # sidecar lets Envoy drain meanwhile.
  lifecycle:
    preStop:
      sleep: {seconds: {{ add $proxy.preStopSleepSeconds (include "authz.drainSeconds" .) }}}
  {{- end }}
  securityContext:
    {{- $proxy.securityContext | default .Values.authz.securityContext | toYaml | nindent 4 }}
  resources:
    {{- toYaml $proxy.resources | nindent 4 }}
  volumeMounts:
    {{- include "authz-sidecar.envoyVolumeMounts" . | nindent 4 }}
    - name: envoy-config
      mountPath: /etc/envoy
      readOnly: true
    {{- if $proxy.tls.existingSecret }}
    - name: envoy-tls
      mountPath: /etc/envoy-tls
      readOnly: true
    {{- end }}
    {{- if $proxy.upstream.tls.enabled }}
    - name: envoy-upstream-tls
      mountPath: /etc/envoy-upstream-tls
      readOnly: true
    {{- end }}
    {{- with $proxy.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
