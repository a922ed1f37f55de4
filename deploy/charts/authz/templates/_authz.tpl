{{/* Makes the values of this chart known to the library, and refuses what contradicts. Comes first in every template. */}}
{{- define "authz.prepare" -}}
{{- range $key := tuple "nameOverride" "fullnameOverride" "commonLabels" "imagePullSecrets" -}}
  {{- with get $.Values $key -}}{{- $_ := set $.Values.authz $key . -}}{{- end -}}
{{- end -}}
{{- if has "IPv6" .Values.service.ipFamilies -}}{{- $_ := set .Values.authz "ipv6" true -}}{{- end -}}
{{- include "authz-sidecar.checkLabels" (dict "labels" .Values.podLabels "path" "podLabels") -}}
{{- include "authz-sidecar.check" . -}}
{{- include "authz.checkRoutes" . -}}
{{- if eq .Values.mode "proxy" -}}{{- include "authz.checkProxy" . -}}{{- end -}}
{{- if eq .Values.mode "server" -}}{{- include "authz.checkServer" . -}}{{- end -}}
{{- if and (or .Values.authz.podMonitor.enabled .Values.authz.serviceMonitor.enabled) .Values.networkPolicy.enabled (not .Values.networkPolicy.metricsFrom) -}}
  {{- fail "networkPolicy.metricsFrom is empty, and authz.podMonitor or authz.serviceMonitor is enabled: metrics cannot be scraped" -}}
{{- end -}}
{{- end -}}

{{- define "authz.checkRoutes" -}}
{{- range $kind := list "ingress" "httpRoute" -}}
  {{- if and (get $.Values $kind).enabled (ne $.Values.mode "proxy") -}}
    {{- fail (printf "%s.enabled goes with mode proxy: in mode %s no Envoy of this chart takes its traffic" $kind $.Values.mode) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
  {{- fail "ingress.hosts is empty: name the hosts, as [{host: orders.example.com}]" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
  {{- fail "httpRoute.parentRefs is empty: name the Gateway, as [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- end -}}

{{- define "authz.checkProxy" -}}
{{- $proxy := .Values.proxy -}}
{{- if not $proxy.upstream.host -}}
  {{- fail "proxy.upstream.host is not set: name the Service to protect" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.upstream (not $proxy.upstream.podLabels) -}}
  {{- fail "proxy.upstream.podLabels is not set: the labels of the pods behind proxy.upstream.host, so that only Envoy reaches them; or set networkPolicy.upstream to false, and keep others out by other means" -}}
{{- end -}}
{{- if and $proxy.upstream.tls.enabled (not $proxy.upstream.tls.caSecret) -}}
  {{- fail "proxy.upstream.tls.caSecret is not set: the Secret with the authority of the upstream's certificate" -}}
{{- end -}}
{{- if and $proxy.tracing.enabled (not $proxy.tracing.host) -}}
  {{- fail "proxy.tracing.host is not set: the collector that spans go to" -}}
{{- end -}}
{{- if and $proxy.tracing.enabled .Values.networkPolicy.enabled (not .Values.networkPolicy.collector) -}}
  {{- fail "networkPolicy.collector is empty, and proxy.tracing.enabled: no span may leave" -}}
{{- end -}}
{{- if and $proxy.websocket.enabled (eq $proxy.upstream.protocol "http2") -}}
  {{- fail "proxy.websocket.enabled needs an upstream that speaks HTTP/1: proxy.upstream.protocol is http2" -}}
{{- end -}}
{{- if and $proxy.grpcWeb.enabled (ne $proxy.upstream.protocol "http2") -}}
  {{- fail "proxy.grpcWeb.enabled needs an upstream that speaks gRPC: set proxy.upstream.protocol to http2" -}}
{{- end -}}
{{- $stop := add $proxy.preStopSleepSeconds (include "authz.drainSeconds" .) -}}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int (add $stop 5)) -}}
  {{- fail (printf "terminationGracePeriodSeconds is %d: it must be at least %d, for proxy.preStopSleepSeconds, proxy.drainSeconds and 5 for the sidecar" (int .Values.terminationGracePeriodSeconds) (add $stop 5)) -}}
{{- end -}}
{{- $_ := set .Values.authz "envoyMetrics" (dict "port" "envoy-admin" "path" "/stats/prometheus" "number" $proxy.telemetryPort) -}}
{{- $_ := set .Values.authz.envoy "adminAddress" "127.0.0.1:9901" -}}
{{- $_ := set .Values.authz.envoy "drainSeconds" $stop -}}
{{- range $index, $route := $proxy.routes -}}
  {{- if and (hasKey $route "authz") (hasKey $route "rule") -}}
    {{- fail (printf "proxy.routes[%d] has both authz and rule: a route that is not checked has no rule" $index) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "authz.checkServer" -}}
{{- $server := .Values.server -}}
{{- $plaintext := dig "insecure" "plaintext" false (include "authz-sidecar.parsed" . | fromJson) -}}
{{- if .Values.authz.existingConfigMap -}}
  {{- fail "authz.existingConfigMap cannot be used in mode server: the chart writes server.listen and server.tls" -}}
{{- end -}}
{{- if not (or $server.tls.existingSecret $server.loopback $plaintext) -}}
  {{- fail "server.tls.existingSecret is not set: the Secret with tls.crt, tls.key and the ca.crt of the clients; or server.loopback behind a mesh, or authz.config.insecure.plaintext" -}}
{{- end -}}
{{- $host := ternary "127.0.0.1" (include "authz-sidecar.everywhere" .) $server.loopback -}}
{{- $service := printf "%s.%s.svc" (include "authz-sidecar.fullname" .) .Release.Namespace -}}
{{- $tls := dict -}}
{{- if $server.tls.existingSecret -}}
  {{- $tls = dict "cert_file" "/etc/authz-tls/tls.crt" "key_file" "/etc/authz-tls/tls.key" "client_ca_file" "/etc/authz-tls/ca.crt" -}}
{{- end -}}
{{- $_ := set .Values.authz "tcp" (dict "host" $host "port" $server.port "service" $service "tls" $tls) -}}
{{- $_ := set .Values.authz "nativeSidecar" false -}}
{{- if and $server.tls.existingSecret (not .Values.serverMounted) -}}
  {{- $volume := dict "name" "authz-tls" "secret" (dict "secretName" $server.tls.existingSecret "defaultMode" 0440) -}}
  {{- $_ := set .Values.authz "extraVolumes" (append .Values.authz.extraVolumes $volume) -}}
  {{- $mount := dict "name" "authz-tls" "mountPath" "/etc/authz-tls" "readOnly" true -}}
  {{- $_ := set .Values.authz "extraVolumeMounts" (append .Values.authz.extraVolumeMounts $mount) -}}
  {{- $_ := set .Values "serverMounted" true -}}
{{- end -}}
{{- end -}}

{{- define "authz.selectorLabels" -}}
app.kubernetes.io/name: {{ include "authz-sidecar.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: {{ .Values.mode }}
{{- end -}}

{{- define "authz.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "authz-sidecar.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "authz.upstreamPort" -}}
{{- .Values.proxy.upstream.targetPort | default .Values.proxy.upstream.port | int -}}
{{- end -}}

{{/* How long requests in flight may take, once Envoy accepts no others. */}}
{{- define "authz.drainSeconds" -}}
{{- $proxy := .Values.proxy -}}
{{- if kindIs "invalid" $proxy.drainSeconds -}}
  {{- $proxy.upstream.timeoutSeconds | default 30 | int -}}
{{- else -}}
  {{- int $proxy.drainSeconds -}}
{{- end -}}
{{- end -}}

{{/* One line for each insecure setting. */}}
{{- define "authz.insecureSettings" -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- range $key, $value := $config.insecure }}{{ if $value }}
- authz.config.insecure.{{ $key }}
{{- end }}{{ end -}}
{{- range $name, $issuer := $config.issuers }}{{ range $key, $value := $issuer.insecure }}{{ if $value }}
- authz.config.issuers.{{ $name }}.insecure.{{ $key }}
{{- end }}{{ end }}{{ end -}}
{{- range $config.rules }}{{ if .shadow }}
- the rule {{ .name | default "without a name" }} is in shadow: what it would deny is reported, and passes
{{- end }}{{ end -}}
{{- if dig "responses" "expose_reason" false $config }}
- authz.config.responses.expose_reason: clients learn why they were denied
{{- end }}
{{- if eq (dig "responses" "unavailable" "deny" $config) "error" }}
- authz.config.responses.unavailable is error: Envoy's failure_mode_allow decides while keys are unavailable
{{- end }}
{{- if .Values.authz.envoy.failureModeAllow }}
- authz.envoy.failureModeAllow: while no sidecar answers, every request passes
{{- end }}
{{- if ne .Values.authz.envoy.underscores "REJECT_REQUEST" }}
- authz.envoy.underscores is {{ .Values.authz.envoy.underscores }}: is x_name taken for x-name by your upstream?
{{- end }}
{{- if ne .Values.mode "config-only" }}
{{- if not .Values.networkPolicy.enabled }}
- networkPolicy.enabled is false: the pods reach everything, and every pod reaches them
{{- else if and (eq .Values.mode "proxy") (not .Values.networkPolicy.upstream) }}
- networkPolicy.upstream is false: clients that reach the upstream around Envoy skip authorization
{{- end }}
{{- end }}
{{- if eq .Values.mode "proxy" }}
{{- range .Values.proxy.routes }}{{ if and (hasKey . "authz") (not .authz) }}
- proxy.routes: {{ .prefix }} is open to every client, and never checked
{{- end }}{{ end }}
{{- if not .Values.proxy.tls.existingSecret }}
- proxy.tls.existingSecret is empty: tokens cross the network in plain text, unless a mesh or gateway encrypts
{{- end }}
{{- end }}
{{- end -}}
