{{/*
The pieces of an Envoy configuration, each as YAML to include at its place. All are needed: a piece left out is a way
around the sidecar, or a way to flood it.

  authz-sidecar.envoy.connectionManager   keys of the HttpConnectionManager
  authz-sidecar.envoy.httpFilters         entries of its http_filters, in front of all others
  authz-sidecar.envoy.accessLog           entry of its access_log
  authz-sidecar.envoy.cluster             entry of static_resources.clusters
  authz-sidecar.envoy.receiverRoutes      with authz.receiver.enabled: first entries of the routes of a virtual host
  authz-sidecar.envoy.receiverCluster     the same: one more entry of static_resources.clusters
  authz-sidecar.envoy.disabled            of a route's typed_per_filter_config: do not ask the sidecar
  authz-sidecar.envoy.rule                the same, to name a rule; takes the name

They need Envoy 1.37 or newer.
*/}}

{{- define "authz-sidecar.envoy.connectionManager" -}}
{{- $envoy := .Values.authz.envoy -}}
# One spelling of each path, before anything reads it: the sidecar decides on what the upstream will see.
normalize_path: true
merge_slashes: {{ $envoy.mergeSlashes }}
path_with_escaped_slashes_action: {{ $envoy.escapedSlashes }}
# The client's address is that of the connection, or the one that the trusted proxies in front of Envoy report.
use_remote_address: true
xff_num_trusted_hops: {{ $envoy.trustedHops | default 0 | int }}
common_http_protocol_options:
  # Some servers take x_auth_subject for x-auth-subject.
  headers_with_underscores_action: {{ $envoy.underscores }}
  idle_timeout: 3600s
  {{- with int $envoy.maxStreamSeconds }}
  # A token is checked once, when a request begins: no WebSocket and no gRPC stream outlives it by more than this.
  max_stream_duration: {{ . }}s
  {{- end }}
  max_headers_count: 100
http2_protocol_options:
  max_concurrent_streams: 100
  initial_stream_window_size: 65536
  initial_connection_window_size: 1048576
max_request_headers_kb: 60
# A client that sends its request byte by byte holds nothing for long.
request_headers_timeout: 10s
stream_idle_timeout: 300s
{{- with include "authz-sidecar.envoy.removed" . | fromJsonArray }}
# What only the sidecar may say is taken out of every request before any filter or route sees it, in every spelling;
# and so is what clients claim of another host, path or method.
early_header_mutation_extensions:
  - name: envoy.http.early_header_mutation.header_mutation
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
      mutations:
        {{- range . }}
        - remove_on_match: {key_matcher: {safe_regex: {regex: {{ regexReplaceAll "[-_]" . "[-_]" | quote }}}}}
        {{- end }}
{{- end }}
{{- end -}}

{{- define "authz-sidecar.envoy.httpFilters" -}}
{{- $envoy := .Values.authz.envoy -}}
{{- include "authz-sidecar.envoy.receiverFilters" . -}}
{{- with $envoy.rateLimit.address }}
{{- if .enabled }}
# 1. Before the sidecar is asked: so many requests from one address, that guessing tokens is slow and a flood is cheap.
- name: authz.rate_limit.address
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: authz_address
    {{- include "authz-sidecar.envoy.enforced" $ | nindent 4 }}
    rate_limits:
      # An IPv6 client owns at least a /64.
      - actions: [{masked_remote_address: {v4_prefix_mask_len: 32, v6_prefix_mask_len: 64}}]
    descriptors:
      - entries: [{key: masked_remote_address}]
        token_bucket: {{ include "authz-sidecar.envoy.bucket" . }}
{{ end }}
{{- end }}
# 2. The sidecar judges.
{{ include "authz-sidecar.envoy.extAuthz" . }}
{{- $limits := dict -}}
{{- range $who, $key := dict "person" "identity" "client" "client" -}}
  {{- $limit := get $envoy.rateLimit $key -}}
  {{- if $limit.enabled }}{{ $_ := set $limits $who $limit }}{{ end -}}
{{- end }}
{{- if $limits }}
# 3. After it: so many requests of one person, and of one client whose tokens speak for no person. What the sidecar found
#    out is in the request's dynamic metadata; a request without either, such as one of a public rule, is not counted.
- name: authz.rate_limit.identity
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
    stat_prefix: authz_identity
    {{- include "authz-sidecar.envoy.enforced" $ | nindent 4 }}
    rate_limits:
      {{- range $who, $limit := $limits }}
      - actions:
          - metadata: {descriptor_key: issuer, metadata_key: {key: envoy.filters.http.ext_authz, path: [{key: issuer}]}}
          - metadata: {descriptor_key: {{ $who }}, metadata_key: {key: envoy.filters.http.ext_authz, path: [{key: {{ $who }}}]}}
      {{- end }}
    descriptors:
      {{- range $who, $limit := $limits }}
      - entries: [{key: issuer}, {key: {{ $who }}}]
        token_bucket: {{ include "authz-sidecar.envoy.bucket" $limit }}
      {{- end }}
{{- end }}
{{- end -}}

{{- define "authz-sidecar.envoy.enforced" -}}
filter_enabled: {default_value: {numerator: 100}}
filter_enforced: {default_value: {numerator: 100}}
# One bucket for each that is seen, at most so many; each Envoy counts for itself.
max_dynamic_descriptors: {{ int .Values.authz.envoy.rateLimit.maxTracked }}
rate_limited_as_resource_exhausted: true
response_headers_to_add:
  - {header: {key: retry-after, value: "1"}}
  # What a client can tell the operator: both are in the access log. Before the sidecar there is no decision.
  - {header: {key: x-request-id, value: "%REQ(X-REQUEST-ID)%"}}
  - {header: {key: x-decision-id, value: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision_id)%"}}
{{- end -}}

{{- define "authz-sidecar.envoy.bucket" -}}
{max_tokens: {{ int .burst }}, tokens_per_fill: {{ int .perSecond }}, fill_interval: 1s}
{{- end -}}

{{- define "authz-sidecar.envoy.extAuthz" -}}
{{- $envoy := .Values.authz.envoy -}}
- name: envoy.filters.http.ext_authz
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
    transport_api_version: V3
    grpc_service:
      envoy_grpc: {cluster_name: {{ $envoy.clusterName }}}
      # Above all that a check may wait for: new keys, introspection, PDPs. No retry_policy: a question that was not
      # answered in time would only add to the load.
      timeout: {{ divf (max (int $envoy.timeoutMilliseconds) (add (include "authz-sidecar.maxWait" . | int) 400)) 1000 }}s
    # Fail closed: while no sidecar answers, no request passes.
    failure_mode_allow: {{ $envoy.failureModeAllow }}
    status_on_error: {code: ServiceUnavailable}
    # An answer that HTTP does not allow is an error, and goes nowhere.
    validate_mutations: true
    {{- if include "authz-sidecar.parsed" . | fromJson }}
    # The sidecar may write these headers and no others: no mistake of its own reaches the route or the host.
    decoder_header_mutation_rules:
      disallow_all: true
      {{- with include "authz-sidecar.envoy.mutable" . | fromJsonArray }}
      allow_expression: {regex: {{ printf "^(?:%s)$" (join "|" .) | quote }}}
      {{- end }}
      disallow_is_error: true
    {{- end }}
    include_peer_certificate: {{ $envoy.includePeerCertificate }}
    stat_prefix: authz
{{- end -}}

{{- define "authz-sidecar.envoy.accessLog" -}}
- name: envoy.access_loggers.stdout
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog
    log_format:
      omit_empty_values: true
      json_format:
        time: "%START_TIME%"
        request_id: "%REQ(X-REQUEST-ID)%"
        trace_id: "%TRACE_ID%"
        client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
        protocol: "%PROTOCOL%"
        method: "%REQ(:METHOD)%"
        host: "%REQ(:AUTHORITY)%"
        # Without its query, where tokens may stand.
        path: "%PATH(NQ:PATH)%"
        status: "%RESPONSE_CODE%"
        details: "%RESPONSE_CODE_DETAILS%"
        flags: "%RESPONSE_FLAGS%"
        milliseconds: "%DURATION%"
        bytes_received: "%BYTES_RECEIVED%"
        bytes_sent: "%BYTES_SENT%"
        upstream: "%UPSTREAM_HOST%"
        # Why: the decision_id that the client got, and what only the operator learns.
        decision: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision)%"
        reason: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:reason)%"
        decision_id: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:decision_id)%"
        rule: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:rule)%"
        issuer: "%DYNAMIC_METADATA(envoy.filters.http.ext_authz:issuer)%"
{{- end -}}

{{- define "authz-sidecar.envoy.cluster" -}}
{{- $name := .Values.authz.envoy.clusterName -}}
{{- $tcp := .Values.authz.tcp -}}
- name: {{ $name }}
  type: {{ ternary "STRICT_DNS" "STATIC" (not (empty $tcp)) }}
  connect_timeout: 0.25s
  # Request by request, to the endpoint with the least to do.
  lb_policy: LEAST_REQUEST
  # With no endpoint healthy, fail at once: asking one that does not serve only takes until the timeout.
  common_lb_config: {healthy_panic_threshold: {value: 0}}
  load_assignment:
    cluster_name: {{ $name }}
    endpoints:
      - lb_endpoints:
          {{- range include "authz-sidecar.endpoints" . | fromJsonArray }}
          {{- if hasPrefix "unix:" . }}
          - endpoint: {address: {pipe: {path: {{ trimPrefix "unix:" . }}}}}
          {{- else }}
          {{- $parts := splitList ":" . }}
          - endpoint: {address: {socket_address: {address: {{ first $parts }}, port_value: {{ last $parts }}}}}
          {{- end }}
          {{- end }}
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config:
        http2_protocol_options:
          # Notices a peer that is gone without a word.
          connection_keepalive: {interval: 30s, timeout: 5s}
  # At what the sidecar takes (server.max_concurrent of each worker). What is too much Envoy turns away at no cost; the
  # sidecar spends half a decision on a refusal, and far above its capacity would do little else.
  circuit_breakers:
    {{- $concurrent := dig "server" "max_concurrent" 256 (include "authz-sidecar.parsed" . | fromJson) | int }}
    {{- $most := mul $concurrent (include "authz-sidecar.workers" .) }}
    thresholds: [{max_requests: {{ $most }}, max_pending_requests: {{ $most }}}]
  # A sidecar that has no keys yet, or that drains, says so: it is asked no more.
  health_checks:
    - timeout: 1s
      interval: 1s
      no_traffic_interval: 1s
      unhealthy_interval: 0.25s
      unhealthy_threshold: 2
      healthy_threshold: 1
      grpc_health_check: {service_name: envoy.service.auth.v3.Authorization}
  {{- with $tcp }}
  {{- if .tls }}
  # The files are Envoy's own: its client certificate, and the authority of the sidecar's.
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: {{ .service }}
      common_tls_context:
        tls_certificates:
          - certificate_chain: {filename: /etc/envoy-authz-tls/tls.crt}
            private_key: {filename: /etc/envoy-authz-tls/tls.key}
        validation_context:
          trusted_ca: {filename: /etc/envoy-authz-tls/ca.crt}
          match_typed_subject_alt_names:
            - {san_type: DNS, matcher: {exact: {{ .service }}}}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "authz-sidecar.envoy.disabled" -}}
envoy.filters.http.ext_authz:
  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
  disabled: true
{{- end -}}

{{/* The rule is chosen by `match: {context: {authz.rule: NAME}}`; no client can set this. */}}
{{- define "authz-sidecar.envoy.rule" -}}
envoy.filters.http.ext_authz:
  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
  check_settings: {context_extensions: {authz.rule: {{ . | quote }}}}
{{- end -}}

{{/* Names of the headers that only the sidecar may write, as a JSON list. */}}
{{- define "authz-sidecar.envoy.identityHeaders" -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- concat (dig "identity" "headers" dict $config | keys) .Values.authz.envoy.identityHeaders | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/* Headers by which clients claim another host, path or method, and that are not kept, as a JSON list. */}}
{{- define "authz-sidecar.envoy.claims" -}}
{{- $kept := concat .Values.authz.envoy.keepHeaders (include "authz-sidecar.envoy.identityHeaders" . | fromJsonArray) -}}
{{- $config := .Values.authz.config | default dict -}}
{{- range dig "token" "sources" list $config -}}
  {{- $kept = append $kept (.header | default "") -}}
{{- end -}}
{{- $rules := dig "rules" list $config | toJson -}}
{{- $claims := list -}}
{{- range list "forwarded" "x-forwarded-host" "x-forwarded-server" "x-host" "x-original-host" "x-forwarded-path" "x-forwarded-prefix" "x-forwarded-uri" "x-original-uri" "x-original-url" "x-rewrite-url" "script_name" "x-forwarded-method" "x-http-method" "x-http-method-override" "x-method-override" -}}
  {{- if not (or (has . $kept) (regexMatch (printf `request\.headers\[\s*\\?["']%s\\?["']` .) $rules)) -}}
    {{- $claims = append $claims . -}}
  {{- end -}}
{{- end -}}
{{- $claims | toJson -}}
{{- end -}}

{{/* What is taken out of requests before anything reads it: an entry each, and one for five claims. */}}
{{- define "authz-sidecar.envoy.removed" -}}
{{- $removed := include "authz-sidecar.envoy.identityHeaders" . | fromJsonArray -}}
{{- range chunk 5 (include "authz-sidecar.envoy.claims" . | fromJsonArray) -}}
  {{- $removed = append $removed (join "|" .) -}}
{{- end -}}
{{- $removed | toJson -}}
{{- end -}}

{{/* Expressions for all headers that the sidecar sets or removes, as a JSON list. */}}
{{- define "authz-sidecar.envoy.mutable" -}}
{{- $expressions := list -}}
{{- with include "authz-sidecar.parsed" . | fromJson -}}
  {{- range include "authz-sidecar.envoy.identityHeaders" $ | fromJsonArray -}}
    {{- $expressions = append $expressions (regexReplaceAll "[-_]" . "[-_]") -}}
  {{- end -}}
  {{- if not (dig "token" "forward" true .) -}}
    {{- range dig "token" "sources" (list (dict "header" "authorization")) . -}}
      {{- $expressions = append $expressions (.header | default "cookie") -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $expressions | uniq | toJson -}}
{{- end -}}
