{{/*
Where the pods must be able to go, as far as the configuration says. A NetworkPolicy has addresses and no names: what a
name stands for is asked of the operator, and no release goes out that would never become ready.
*/}}

{{/*
Where a URL leads, as JSON: `port`, and as `kind` none (this pod), block (with `cidr`), api (the API server), inside (a
name of the cluster's or of a private network) or public. Takes a dict of `url` and the `port` for one without.
*/}}
{{- define "authz.place" -}}
{{- $authority := regexReplaceAll "^[a-z+]+://" .url "" | splitList "/" | first -}}
{{- $authority = regexReplaceAll "^[^@]*@" $authority "" -}}
{{- $port := regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (toString .port) | int -}}
{{- $host := regexReplaceAll ":[0-9]+$" $authority "" | trimAll "[]" | lower | trimSuffix "." -}}
{{- $place := dict "host" $host "port" $port "kind" "public" -}}
{{- if regexMatch "^(localhost|127\\..*|::1)$" $host -}}
  {{- $_ := set $place "kind" "none" -}}
{{- else if regexMatch "^[0-9]+(\\.[0-9]+){3}$" $host -}}
  {{- $place = merge (dict "kind" "block" "cidr" (printf "%s/32" $host)) $place -}}
{{- else if contains ":" $host -}}
  {{- $place = merge (dict "kind" "block" "cidr" (printf "%s/128" $host)) $place -}}
{{- else if regexMatch "^kubernetes(\\.default(\\.svc(\\..+)?)?)?$" $host -}}
  {{- $_ := set $place "kind" "api" -}}
{{- else if or (not (contains "." $host)) (regexMatch "\\.svc(\\.|$)|\\.(local|internal|lan)$" $host) -}}
  {{- $_ := set $place "kind" "inside" -}}
{{- end -}}
{{- toJson $place -}}
{{- end -}}

{{/* The URLs that an issuer is asked at, for its keys, unless they come from a file, about tokens, and for status lists. */}}
{{- define "authz.issuerUrls" -}}
{{- $urls := list -}}
{{- if not (or .jwks .jwks_file) -}}
  {{- $urls = concat (list .discovery_url .jwks_uri) (.jwks_uris | default list) | compact -}}
  {{- /* An http identifier, such as AD FS has, is not fetched where another source is given. */ -}}
  {{- if not (and $urls (hasPrefix "http://" .issuer)) -}}
    {{- $urls = append $urls .issuer -}}
  {{- end -}}
{{- end -}}
{{- with (.introspection | default dict).url -}}{{- $urls = append $urls . -}}{{- end -}}
{{- $urls = concat $urls ((.status_list | default dict).uris | default list) -}}
{{- with (.status_list | default dict).jwks_uri -}}{{- $urls = append $urls . -}}{{- end -}}
{{- toJson $urls -}}
{{- end -}}

{{/* All that is fetched from as an issuer is, as a JSON object: issuers, lists of revocations, transmitters. */}}
{{- define "authz.fetchedFrom" -}}
{{- $found := .issuers -}}
{{- $revocation := .revocation | default dict -}}
{{- range $name, $list := $revocation.lists -}}
  {{- with $list.url -}}
    {{- $issuer := dict "issuer" . "jwks_uri" . "fetch" (dict "proxy" $list.proxy) -}}
    {{- $found = merge (dict (printf "list %s" $name) $issuer) $found -}}
  {{- end -}}
{{- end -}}
{{- range $name, $transmitter := $revocation.transmitters -}}
  {{- $issuer := dict "issuer" $transmitter.issuer "jwks_uris" (list $transmitter.jwks_uri $transmitter.poll_url | compact) -}}
  {{- $found = merge (dict (printf "transmitter %s" $name) $issuer) $found -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{/* Public addresses: not the cluster, not the machines around it, not a cloud's metadata service. */}}
{{- define "authz.publicAddresses" -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
- ipBlock:
    cidr: 2000::/3
{{- end -}}

{{/* Where keys in services are, as a JSON list of URLs; a name that is not configured stands for the service's own. */}}
{{- define "authz.keyUrls" -}}
{{- $urls := list -}}
{{- range $name, $key := (.signing | default dict).keys -}}
  {{- if eq $key.kind "azure_key_vault" -}}
    {{- $urls = append $urls $key.key -}}
  {{- else if has $key.kind (list "aws_kms" "google_kms") -}}
    {{- $urls = append $urls ($key.endpoint | default "https://kms.amazonaws.com") -}}
  {{- end -}}
{{- end -}}
{{- toJson $urls -}}
{{- end -}}

{{/* Endpoints of the sidecar's exporter, as a JSON list. */}}
{{- define "authz.otlpEndpoints" -}}
{{- $endpoints := list -}}
{{- range $name := list "ENDPOINT" "TRACES_ENDPOINT" "LOGS_ENDPOINT" "METRICS_ENDPOINT" -}}
  {{- $name = printf "OTEL_EXPORTER_OTLP_%s" $name -}}
  {{- $endpoints = append $endpoints (get $.Values.authz.otel $name | toString) -}}
  {{- range $.Values.authz.extraEnv -}}
    {{- if eq .name $name -}}{{- $endpoints = append $endpoints (.value | default "") -}}{{- end -}}
  {{- end -}}
{{- end -}}
{{- $endpoints | compact | uniq | toJson -}}
{{- end -}}

{{/*
Rules of egress as JSON: `issuers`, `proxies`, `keys`, `shared` and `collector` are lists of ports towards the peers of the values, `api`
is whether the API server is needed, and `blocks` has lists of ports by address.
*/}}
{{- define "authz.egress" -}}
{{- $policy := .Values.networkPolicy -}}
{{- $issuers := list -}}
{{- $proxies := list -}}
{{- $collector := list -}}
{{- $api := false -}}
{{- $blocks := dict -}}
{{- range $name, $issuer := include "authz.fetchedFrom" (include "authz-sidecar.parsed" . | fromJson) | fromJson -}}
  {{- $fetch := $issuer.fetch | default dict -}}
  {{- range $url := include "authz.issuerUrls" $issuer | fromJsonArray -}}
    {{- $place := include "authz.place" (dict "url" $url "port" (ternary 80 443 (hasPrefix "http://" $url))) | fromJson -}}
    {{- $port := int $place.port -}}
    {{- if $fetch.proxy -}}
      {{- $place = include "authz.place" (dict "url" $fetch.proxy "port" (ternary 443 80 (hasPrefix "https://" $fetch.proxy))) | fromJson -}}
      {{- $port = int $place.port -}}
    {{- end -}}
    {{- if eq $place.kind "block" -}}
      {{- $_ := set $blocks $place.cidr (append (get $blocks $place.cidr | default list) $port) -}}
    {{- else if and $fetch.proxy (ne $place.kind "none") -}}
      {{- $proxies = append $proxies $port -}}
      {{- if not $policy.fetchProxy -}}
        {{- fail (printf "networkPolicy.fetchProxy is empty, and the keys of the issuer %s are fetched through %s: give its address as peers, such as [{ipBlock: {cidr: 10.0.0.9/32}}]" $name $fetch.proxy) -}}
      {{- end -}}
    {{- else if eq $place.kind "api" -}}
      {{- $api = true -}}
      {{- if not $policy.apiServer -}}
        {{- fail (printf "networkPolicy.apiServer is empty, and the issuer %s is the API server: give its addresses, which `kubectl get endpointslices kubernetes` shows, as peers, such as [{ipBlock: {cidr: 10.0.0.1/32}}]" $name) -}}
      {{- end -}}
    {{- else if has $place.kind (list "inside" "public") -}}
      {{- $issuers = append $issuers $port -}}
      {{- if and (eq $place.kind "inside") (not $policy.issuers) (not $fetch.allowed_networks) -}}
        {{- fail (printf "networkPolicy.issuers is empty, and the issuer %s is at %s: give its pods or addresses as peers; public addresses stay allowed only if you list them too" $name $place.host) -}}
      {{- end -}}
      {{- range $fetch.allowed_networks -}}
        {{- $_ := set $blocks . (append (get $blocks . | default list) $port) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- if not $fetch.proxy -}}
    {{- range $fetch.allowed_hosts -}}
      {{- with regexFind ":[0-9]+$" . }}{{- $issuers = append $issuers (trimPrefix ":" . | int) -}}{{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $pdp := (include "authz-sidecar.parsed" . | fromJson).pdps -}}
  {{- $place := include "authz.place" (dict "url" $pdp.url "port" (ternary 80 443 (hasPrefix "http://" $pdp.url))) | fromJson -}}
  {{- if eq $place.kind "block" -}}
    {{- $_ := set $blocks $place.cidr (append (get $blocks $place.cidr | default list) (int $place.port)) -}}
  {{- else if ne $place.kind "none" -}}
    {{- $issuers = append $issuers (int $place.port) -}}
    {{- if and (ne $place.kind "public") (not $policy.issuers) -}}
      {{- fail (printf "networkPolicy.issuers is empty, and the PDP %s is at %s: give its pods or addresses as peers; public addresses stay allowed only if you list them too" $name $place.host) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- with ((($config.identity | default dict).token | default dict).exchange | default dict).url -}}
  {{- $place := include "authz.place" (dict "url" . "port" (ternary 80 443 (hasPrefix "http://" .))) | fromJson -}}
  {{- if eq $place.kind "block" -}}
    {{- $_ := set $blocks $place.cidr (append (get $blocks $place.cidr | default list) (int $place.port)) -}}
  {{- else if ne $place.kind "none" -}}
    {{- $issuers = append $issuers (int $place.port) -}}
  {{- end -}}
{{- end -}}
{{- $keys := list -}}
{{- range $url := include "authz.keyUrls" $config | fromJsonArray -}}
  {{- $place := include "authz.place" (dict "url" $url "port" 443) | fromJson -}}
  {{- if and (eq $place.kind "block") (not $policy.keyServices) -}}
    {{- $_ := set $blocks $place.cidr (append (get $blocks $place.cidr | default list) (int $place.port)) -}}
  {{- else if ne $place.kind "none" -}}
    {{- $keys = append $keys (int $place.port) -}}
    {{- if and (eq $place.kind "inside") (not $policy.keyServices) -}}
      {{- fail (printf "networkPolicy.keyServices is empty, and a signing key is at %s: give its addresses as peers" $place.host) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if .Values.authz.existingConfigMap -}}{{- $issuers = list 443 -}}{{- end -}}
{{- if $issuers -}}{{- $issuers = $policy.issuerPorts | default $issuers -}}{{- end -}}
{{- $shared := list -}}
{{- with ((include "authz-sidecar.parsed" . | fromJson).shared_state | default dict).url -}}
  {{- $place := include "authz.place" (dict "url" . "port" 6379) | fromJson -}}
  {{- if and (eq $place.kind "block") (not $policy.sharedState) -}}
    {{- $_ := set $blocks $place.cidr (append (get $blocks $place.cidr | default list) (int $place.port)) -}}
  {{- else if ne $place.kind "none" -}}
    {{- $shared = append $shared (int $place.port) -}}
    {{- if not $policy.sharedState -}}
      {{- fail (printf "networkPolicy.sharedState is empty, and shared_state is at %s: give its pods or addresses as peers" $place.host) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $endpoint := include "authz.otlpEndpoints" . | fromJsonArray -}}
  {{- $place := include "authz.place" (dict "url" $endpoint "port" 4317) | fromJson -}}
  {{- if and (eq $place.kind "block") (not $policy.collector) -}}
    {{- $_ := set $blocks $place.cidr (append (get $blocks $place.cidr | default list) (int $place.port)) -}}
  {{- else if ne $place.kind "none" -}}
    {{- $collector = append $collector (int $place.port) -}}
    {{- if not $policy.collector -}}
      {{- fail (printf "networkPolicy.collector is empty, and the sidecar sends to %s: give its pods or addresses as peers" $endpoint) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and (eq .Values.mode "proxy") .Values.proxy.tracing.enabled -}}
  {{- $collector = append $collector (int .Values.proxy.tracing.port) -}}
{{- end -}}
{{- if $policy.collectorPort -}}{{- $collector = list (int $policy.collectorPort) -}}{{- end -}}
{{- $sorted := dict "api" $api "blocks" dict -}}
{{- range $key, $ports := dict "issuers" $issuers "keys" $keys "proxies" $proxies "shared" $shared "collector" $collector -}}
  {{- $_ := set $sorted $key (include "authz.ports" $ports | fromJsonArray) -}}
{{- end -}}
{{- range $cidr, $ports := $blocks -}}
  {{- $_ := set $sorted.blocks $cidr (include "authz.ports" $ports | fromJsonArray) -}}
{{- end -}}
{{- toJson $sorted -}}
{{- end -}}

{{/* Ports in their order, each once, as a JSON list. */}}
{{- define "authz.ports" -}}
{{- $padded := list -}}
{{- range . -}}{{- $padded = append $padded (printf "%05d" (int .)) -}}{{- end -}}
{{- $ports := list -}}
{{- range $padded | uniq | sortAlpha -}}{{- $ports = append $ports (trimPrefix "0" . | trimPrefix "0" | trimPrefix "0" | trimPrefix "0" | int) -}}{{- end -}}
{{- toJson $ports -}}
{{- end -}}

{{/* `ports:` of a rule of egress, over TCP. */}}
{{- define "authz.egressPorts" -}}
ports:
  {{- range . }}
  - {protocol: TCP, port: {{ int . }}}
  {{- end }}
{{- end -}}
