{{/* The pieces of the library, each at its place in an otherwise ordinary bootstrap. */}}
{{- define "orders.envoy" -}}
static_resources:
  listeners:
    - name: front
      address: {socket_address: {address: 0.0.0.0, port_value: 8080}}
      per_connection_buffer_limit_bytes: 32768
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                {{- include "authz-sidecar.envoy.connectionManager" . | nindent 16 }}
                access_log:
                  {{- include "authz-sidecar.envoy.accessLog" . | nindent 18 }}
                http_filters:
                  {{- include "authz-sidecar.envoy.httpFilters" . | trim | nindent 18 }}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  virtual_hosts:
                    - name: orders
                      domains: ["*"]
                      routes:
                        - match: {path: /metrics}
                          direct_response: {status: 404}
                          typed_per_filter_config:
                            {{- include "authz-sidecar.envoy.disabled" . | nindent 28 }}
                        - match: {prefix: /}
                          route: {cluster: orders}
  clusters:
    {{- include "authz-sidecar.envoy.cluster" . | nindent 4 }}
    - name: orders
      type: STATIC
      load_assignment:
        cluster_name: orders
        endpoints:
          - lb_endpoints:
              - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 3000}}}
{{- end -}}
