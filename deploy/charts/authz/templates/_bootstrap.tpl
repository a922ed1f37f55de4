{{/* The whole of Envoy's bootstrap. What is safe is written out even where it is Envoy's default. */}}
{{- define "authz.bootstrap" -}}
{{- $proxy := .Values.proxy -}}
{{- $upstream := $proxy.upstream -}}
node: {id: {{ include "authz-sidecar.fullname" . }}, cluster: {{ include "authz-sidecar.fullname" . }}}

# Reached from inside the pod only; what others may see passes the listener `telemetry`.
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 9901}}

static_resources:
  listeners:
    - name: front
      address: {socket_address: { {{- include "authz.everywhere" . }}, port_value: {{ int $proxy.port }}}}
      # Bounds what a slow reader can hold in memory.
      per_connection_buffer_limit_bytes: 32768
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                codec_type: AUTO
                {{- include "authz-sidecar.envoy.connectionManager" . | nindent 16 }}
                # A request id of the client's own would let it write into others' traces.
                preserve_external_request_id: false
                access_log:
                  {{- include "authz-sidecar.envoy.accessLog" . | nindent 18 }}
                {{- if $proxy.tracing.enabled }}
                tracing:
                  random_sampling: {value: {{ $proxy.tracing.percent }}}
                  provider:
                    name: envoy.tracers.opentelemetry
                    typed_config:
                      "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                      grpc_service: {envoy_grpc: {cluster_name: traces}, timeout: 0.5s}
                      service_name: {{ $proxy.tracing.serviceName | default .Release.Name }}
                  # The same id that the access log, the sidecar's log and the client have.
                  custom_tags:
                    - {tag: authz.decision_id, metadata: {kind: {request: {}}, metadata_key: {key: envoy.filters.http.ext_authz, path: [{key: decision_id}]}}}
                    - {tag: authz.reason, metadata: {kind: {request: {}}, metadata_key: {key: envoy.filters.http.ext_authz, path: [{key: reason}]}}}
                {{- end }}
                {{- if $proxy.websocket.enabled }}
                # Through the filters below, as any request.
                upgrade_configs: [{upgrade_type: websocket}]
                {{- end }}
                http_filters:
                  {{- if $proxy.cors.allowOrigins }}
                  # In front of all that may refuse: a preflight carries no token, and a page may read why it was refused.
                  - name: envoy.filters.http.cors
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors
                  {{- end }}
                  {{- if $proxy.grpcWeb.enabled }}
                  # Makes gRPC of gRPC-Web before the sidecar is asked, and gRPC-Web of its denials.
                  - name: envoy.filters.http.grpc_web
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb
                  {{- end }}
                  {{- include "authz-sidecar.envoy.httpFilters" . | trim | nindent 18 }}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  name: front
                  virtual_hosts:
                    - name: front
                      domains: ["*"]
                      {{- with $proxy.cors }}
                      {{- if .allowOrigins }}
                      {{- $grpcWeb := $proxy.grpcWeb.enabled }}
                      typed_per_filter_config:
                        envoy.filters.http.cors:
                          "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy
                          allow_origin_string_match:
                            {{- range .allowOrigins }}
                            - exact: {{ . | quote }}
                            {{- end }}
                          allow_methods: {{ join "," .allowMethods | quote }}
                          allow_headers: {{ concat .allowHeaders (ternary (list "x-grpc-web" "x-user-agent" "grpc-timeout") list $grpcWeb) | uniq | join "," | quote }}
                          expose_headers: {{ concat .exposeHeaders (ternary (list "grpc-status" "grpc-message" "grpc-status-details-bin") list $grpcWeb) | uniq | join "," | quote }}
                          allow_credentials: {{ .allowCredentials }}
                          max_age: {{ int .maxAgeSeconds | quote }}
                      # The answer differs by origin: no cache may give it to another's page.
                      response_headers_to_add: [{header: {key: vary, value: origin}, append_action: APPEND_IF_EXISTS_OR_ADD}]
                      {{- end }}
                      {{- end }}
                      routes:
                        {{- with include "authz-sidecar.envoy.receiverRoutes" . | trim }}
                        # What issuers send to the sidecar.
                        {{- . | nindent 24 }}
                        {{- end }}
                        {{- range $proxy.routes }}
                        # Whole segments: /orders is no beginning of /orders-internal.
                        - match: { {{- ternary "prefix" "path_separated_prefix" (hasSuffix "/" .prefix) }}: {{ .prefix | quote }}}
                          {{- include "authz.route" $ | nindent 26 }}
                          {{- if and (hasKey . "authz") (not .authz) }}
                          # Not checked: no token is read, and no identity header is set.
                          typed_per_filter_config:
                            {{- include "authz-sidecar.envoy.disabled" $ | nindent 28 }}
                          {{- else if .rule }}
                          # Rules that match `context: {authz.rule: {{ .rule }}}`; no client can say this.
                          typed_per_filter_config:
                            {{- include "authz-sidecar.envoy.rule" .rule | nindent 28 }}
                          {{- end }}
                        {{- end }}
                        - match: {prefix: /}
                          {{- include "authz.route" . | nindent 26 }}
          {{- if $proxy.tls.existingSecret }}
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_params: {tls_minimum_protocol_version: TLSv1_2}
                # From a file that names the mounted Secret, so that a renewed certificate is taken up.
                tls_certificate_sds_secret_configs:
                  - name: front
                    sds_config: {path_config_source: {path: /etc/envoy/tls.yaml}}
          {{- end }}
    # Readiness and metrics, and nothing else of the admin interface.
    - name: telemetry
      address: {socket_address: { {{- include "authz.everywhere" . }}, port_value: {{ int $proxy.telemetryPort }}}}
      ignore_global_conn_limit: true
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: telemetry
                http_filters:
                  # Ready: Envoy can have requests checked. A pod whose sidecar does not serve gets none.
                  - name: envoy.filters.http.health_check
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck
                      pass_through_mode: false
                      headers:
                        - {name: ":path", string_match: {exact: /ready}}
                        - {name: ":method", string_match: {exact: GET}}
                      cluster_min_healthy_percentages: { {{- .Values.authz.envoy.clusterName }}: {value: 1}}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: telemetry
                      domains: ["*"]
                      routes:
                        - match: {path: /live, headers: [{name: ":method", string_match: {exact: GET}}]}
                          route: {cluster: admin, prefix_rewrite: /ready}
                        - match: {path: /stats/prometheus, headers: [{name: ":method", string_match: {exact: GET}}]}
                          route: {cluster: admin}
  clusters:
    {{- include "authz-sidecar.envoy.cluster" . | nindent 4 }}
    {{- with include "authz-sidecar.envoy.receiverCluster" . }}
    {{- . | nindent 4 }}
    {{- end }}
    - name: upstream
      type: STRICT_DNS
      connect_timeout: 1s
      load_assignment:
        cluster_name: upstream
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ $upstream.host }}, port_value: {{ int $upstream.port }}}}}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          # Sooner than the upstream closes: a request on a connection that is being closed gets no answer.
          common_http_protocol_options: {idle_timeout: {{ $upstream.idleTimeoutSeconds }}s}
          explicit_http_config:
            {{ ternary "http2_protocol_options" "http_protocol_options" (eq $upstream.protocol "http2") }}: {}
      {{- if $upstream.tls.enabled }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          {{- $name := $upstream.tls.serverName | default $upstream.host }}
          sni: {{ $name }}
          common_tls_context:
            validation_context:
              trusted_ca: {filename: /etc/envoy-upstream-tls/ca.crt}
              match_typed_subject_alt_names:
                - {san_type: DNS, matcher: {exact: {{ $name }}}}
      {{- end }}
    - name: admin
      type: STATIC
      connect_timeout: 0.25s
      load_assignment:
        cluster_name: admin
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
    {{- if $proxy.tracing.enabled }}
    - name: traces
      type: STRICT_DNS
      connect_timeout: 1s
      load_assignment:
        cluster_name: traces
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: {{ $proxy.tracing.host }}, port_value: {{ int $proxy.tracing.port }}}}}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            http2_protocol_options: {}
    {{- end }}

# Sheds load before the kernel ends the process.
overload_manager:
  resource_monitors:
    - name: envoy.resource_monitors.global_downstream_max_connections
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
        max_active_downstream_connections: {{ int $proxy.maxConnections }}
{{- end -}}

{{- define "authz.everywhere" -}}
{{- ternary `address: "::", ipv4_compat: true` "address: 0.0.0.0" .Values.authz.ipv6 -}}
{{- end -}}

{{- define "authz.route" -}}
route:
  cluster: upstream
  timeout: {{ .Values.proxy.upstream.timeoutSeconds }}s
  {{- if .Values.proxy.upstream.retry }}
  {{- if eq .Values.proxy.upstream.protocol "http2" }}
  # Requests that the upstream says it did not process, or that were not sent.
  retry_policy: {retry_on: "refused-stream,reset-before-request", num_retries: 1}
  {{- else }}
  # A connection that broke before an answer: only methods that may be repeated (RFC 9110, section 9.2.2).
  retry_policy:
    retry_on: reset
    num_retries: 1
    retriable_request_headers: [{name: ":method", string_match: {safe_regex: {regex: "GET|HEAD|OPTIONS|TRACE|PUT|DELETE"}}}]
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "authz.downstreamSecret" -}}
resources:
  - "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret
    name: front
    tls_certificate:
      certificate_chain: {filename: /etc/envoy-tls/tls.crt}
      private_key: {filename: /etc/envoy-tls/tls.key}
      watched_directory: {path: /etc/envoy-tls}
{{- end -}}
