{{/*
What Envoy does in front of the sidecar's receiver of logout tokens and security events: TLS, a limit of each sender, a bound
of the body, the access log. The requests carry no access token, and are not checked: their bodies are signed.
*/}}

{{/* Off, but on the routes of the receiver. */}}
{{- define "authz-sidecar.envoy.receiverFilters" -}}
{{- if .Values.authz.receiver.enabled -}}
{{- if .Values.authz.receiver.from }}
# Of the receiver's routes: senders from these networks only.
- name: authz.receiver.senders
  disabled: true
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
    rules:
      action: ALLOW
      policies:
        senders:
          permissions: [{any: true}]
          principals:
            {{- range .Values.authz.receiver.from }}
            {{- $parts := splitList "/" . }}
            - remote_ip: {address_prefix: {{ first $parts | quote }}, prefix_len: {{ last $parts }}}
            {{- end }}
{{- end }}
# Of the receiver's routes: so many from one address.
- name: authz.receiver.rate_limit
  disabled: true
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: authz_receiver
    {{- include "authz-sidecar.envoy.enforced" . | nindent 4 }}
    rate_limits:
      - actions: [{masked_remote_address: {v4_prefix_mask_len: 32, v6_prefix_mask_len: 64}}]
    descriptors:
      - entries: [{key: masked_remote_address}]
        token_bucket: {{ include "authz-sidecar.envoy.bucket" .Values.authz.envoy.rateLimit.receiver }}
# Of the receiver's routes: bodies of known length, and none that the sidecar would refuse for its size.
- name: authz.receiver.body
  disabled: true
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer
    max_request_bytes: 98304
{{ end -}}
{{- end -}}

{{- define "authz-sidecar.envoy.receiverRoutes" -}}
{{- if .Values.authz.receiver.enabled -}}
{{- range tuple "/backchannel-logout" "/events" }}
- match: {path: {{ printf "%s%s" $.Values.authz.receiver.prefix . }}, headers: [{name: ":method", string_match: {exact: POST}}]}
  route: {cluster: {{ $.Values.authz.envoy.clusterName }}-receiver, prefix_rewrite: {{ . }}, timeout: 10s}
  typed_per_filter_config:
    {{- include "authz-sidecar.envoy.receiverOnly" $ | nindent 4 }}
- match: {path: {{ printf "%s%s" $.Values.authz.receiver.prefix . }}}
  direct_response: {status: 405}
  response_headers_to_add: [{header: {key: allow, value: POST}}]
  typed_per_filter_config:
    {{- include "authz-sidecar.envoy.receiverOnly" $ | nindent 4 }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The sidecar decides nothing here, and verifies the message itself. */}}
{{- define "authz-sidecar.envoy.receiverOnly" -}}
{{- include "authz-sidecar.envoy.disabled" . }}
{{- $on := list "rate_limit" "body" -}}
{{- if .Values.authz.receiver.from -}}{{- $on = prepend $on "senders" -}}{{- end }}
{{- range $on }}
authz.receiver.{{ . }}: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {}}
{{- end }}
{{- if .Values.authz.envoy.rateLimit.address.enabled }}
authz.rate_limit.address: {"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true}
{{- end }}
{{- end -}}

{{- define "authz-sidecar.envoy.receiverCluster" -}}
{{- if .Values.authz.receiver.enabled -}}
{{- $name := printf "%s-receiver" .Values.authz.envoy.clusterName -}}
{{- $tcp := .Values.authz.tcp -}}
- name: {{ $name }}
  type: {{ ternary "STRICT_DNS" "STATIC" (not (empty $tcp)) }}
  connect_timeout: 1s
  load_assignment:
    cluster_name: {{ $name }}
    endpoints:
      - lb_endpoints:
          - endpoint: {address: {socket_address: {address: {{ ($tcp | default dict).service | default "127.0.0.1" }}, port_value: {{ int .Values.authz.receiver.port }}}}}
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config:
        http_protocol_options: {}
  # It verifies a few messages at a time, beside the checks; others wait here.
  circuit_breakers:
    thresholds: [{max_connections: 8, max_pending_requests: 256}]
{{- end -}}
{{- end -}}
