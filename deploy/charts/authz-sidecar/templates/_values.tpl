{{/*
What the values mean, and what is wrong with them. Every template takes the root context, and reads `.Values.authz`:
the dependency must carry `alias: authz`.
*/}}

{{/* Refuses what the schema cannot see. Included by everything that makes an object. */}}
{{- define "authz-sidecar.check" -}}
{{- if not (hasKey .Subcharts "authz") -}}
  {{- fail "authz-sidecar: in your Chart.yaml, give the dependency authz-sidecar the line `alias: authz`" -}}
{{- end -}}
{{- $values := .Values.authz -}}
{{- if not $values.image.repository -}}
  {{- fail "authz.image.repository is not set: name the repository that your build of deploy/Dockerfile was pushed to, such as platform/authz, and its authz.image.registry" -}}
{{- end -}}
{{- if and $values.config $values.existingConfigMap -}}
  {{- fail "authz.config and authz.existingConfigMap are both set: one of them must go" -}}
{{- end -}}
{{- if and $values.configText (or $values.config $values.existingConfigMap) -}}
  {{- fail "authz.configText is set, and so is authz.config or authz.existingConfigMap: one of them must go" -}}
{{- end -}}
{{- if and $values.configServer (not $values.configText) -}}
  {{- fail "authz.configServer goes with authz.configText; beside authz.config write authz.config.server" -}}
{{- end -}}
{{- if not (or $values.config $values.configText $values.existingConfigMap) -}}
  {{- fail "authz.config is not set: give the configuration of the sidecar, as text in authz.configText, or the name of a ConfigMap as authz.existingConfigMap" -}}
{{- end -}}
{{- if and $values.envoy.rateLimit.address.enabled (kindIs "invalid" $values.envoy.trustedHops) -}}
  {{- fail "authz.envoy.trustedHops is not set, and authz.envoy.rateLimit.address is on: say how many proxies stand in front of Envoy (0: none), or all clients share the limit of one address" -}}
{{- end -}}
{{- if $values.configText -}}
  {{- include "authz-sidecar.checkText" . -}}
{{- else if $values.config -}}
  {{- include "authz-sidecar.checkExact" . -}}
{{- end -}}
{{- with include "authz-sidecar.parsed" . | fromJson -}}
  {{- $server := .server | default dict -}}
  {{- range tuple "listen" "tls" "socket_mode" -}}
    {{- if hasKey $server . -}}
      {{- fail (printf "authz.config.server.%s must not be set: the chart sets it, to fit the volumes and Envoy" .) -}}
    {{- end -}}
  {{- end -}}
  {{- if hasKey . "receivers" -}}
    {{- fail "authz.config.receivers must not be set: the chart sets it, with authz.receiver.enabled" -}}
  {{- end -}}
  {{- if not $values.receiver.enabled -}}
    {{- include "authz-sidecar.checkReceived" . -}}
  {{- end -}}
  {{- if hasKey . "admin" -}}
    {{- fail "authz.config.admin must not be set: the chart sets it; the port is authz.adminPort" -}}
  {{- end -}}
  {{- if $values.tcp -}}
    {{- $last := add $values.tcp.port (include "authz-sidecar.workers" $) -1 -}}
    {{- $own := dict "adminPort" $values.adminPort -}}
    {{- if $values.receiver.enabled -}}{{- $_ := set $own "receiver.port" $values.receiver.port -}}{{- end -}}
    {{- range $name, $port := $own -}}
      {{- if and (le (int $values.tcp.port) (int $port)) (le (int $port) (int $last)) -}}
        {{- fail (printf "authz.%s %d is one of the server's ports, %d to %d: one for each of authz.config.server.workers" $name (int $port) (int $values.tcp.port) $last) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- if and $values.receiver.enabled (eq (int $values.receiver.port) (int $values.adminPort)) -}}
    {{- fail (printf "authz.receiver.port and authz.adminPort are both %d" (int $values.adminPort)) -}}
  {{- end -}}
  {{- include "authz-sidecar.checkLabels" (dict "labels" $values.commonLabels "path" "commonLabels") -}}
  {{- include "authz-sidecar.checkMonitors" $ -}}
  {{- include "authz-sidecar.checkFiles" $ -}}
  {{- include "authz-sidecar.checkEnvoy" $ -}}
{{- end -}}
{{- end -}}

{{/* What an issuer or a transmitter sends must arrive somewhere. Takes the configuration. */}}
{{- define "authz-sidecar.checkReceived" -}}
{{- range $name, $issuer := .issuers -}}
  {{- if hasKey ($issuer | default dict) "logout" -}}
    {{- fail (printf "authz.config.issuers.%s.logout needs authz.receiver.enabled: nothing receives logout tokens" $name) -}}
  {{- end -}}
{{- end -}}
{{- range $name, $transmitter := dig "revocation" "transmitters" dict . -}}
  {{- if not ($transmitter | default dict).poll_url -}}
    {{- fail (printf "authz.config.revocation.transmitters.%s needs authz.receiver.enabled, or a poll_url: nothing receives its events" $name) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/*
The configuration as the chart reads it, in JSON: to fit Envoy, volumes and monitors to it. What the sidecar gets of
configText is the text itself.
*/}}
{{- define "authz-sidecar.parsed" -}}
{{- $values := .Values.authz -}}
{{- if $values.configText -}}
  {{- $parsed := fromYaml $values.configText -}}
  {{- with $values.configServer -}}{{- $_ := set $parsed "server" . -}}{{- end -}}
  {{- toJson $parsed -}}
{{- else -}}
  {{- toJson ($values.config | default dict) -}}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.checkText" -}}
{{- $parsed := fromYaml .Values.authz.configText -}}
{{- if hasKey $parsed "Error" -}}
  {{- fail (printf "authz.configText is not YAML: %s" $parsed.Error) -}}
{{- end -}}
{{- range tuple "server" "admin" "receivers" -}}
  {{- if hasKey $parsed . -}}
    {{- fail (printf "authz.configText must not have %s: the chart writes it; other keys of server stand in authz.configServer" .) -}}
  {{- end -}}
{{- end -}}
{{- if not (hasKey (include "authz-sidecar.config" . | fromYaml) "admin") -}}
  {{- fail "authz.configText must be in block style, one key a line: the chart adds server and admin below it" -}}
{{- end -}}
{{- range $name, $value := dig "identity" "headers" dict $parsed -}}
  {{- include "authz-sidecar.checkKey" (dict "key" $name "path" "authz.configText: identity.headers" "do" "name the header otherwise") -}}
{{- end -}}
{{- range $source := dig "token" "sources" list $parsed -}}
  {{- range $kind, $name := $source -}}
    {{- if and (has $kind (list "header" "cookie")) (not (kindIs "string" $name)) -}}
      {{- fail (printf "authz.configText: token.sources: put the name of the %s in quotes" $kind) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/*
Helm reads values as YAML 1.1, through numbers of 64 bits, and the sidecar reads its file as YAML 1.2: of NO Helm makes
false, of 0660 432, of 9007199254740993 its neighbour. Where a value has no type of its own, only text arrives as it was
written.
*/}}
{{- define "authz-sidecar.checkExact" -}}
{{- include "authz-sidecar.checkKeys" (dict "value" .Values.authz.config "path" "authz.config") -}}
{{- range $place, $rule := .Values.authz.config.rules -}}
  {{- range $kind := list "claims" "all_of" -}}
    {{- range $claim, $values := dig "require" $kind dict $rule -}}
      {{- range $value := $values -}}
        {{- if not (kindIs "string" $value) -}}
          {{- fail (printf "authz.config.rules[%d].require.%s.%s: if the value is text, quote it (\"NO\", \"0660\"): Helm would change it. A number, true or false: give the whole configuration as authz.configText, which no YAML parser touches" $place $kind $claim) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $issuer := .Values.authz.config.issuers -}}
  {{- range $key := dig "jwks" "keys" list $issuer -}}
    {{- range $member := list "kid" "kty" "alg" "use" "crv" "x" "y" "n" "e" "x5t" "x5t#S256" -}}
      {{- if and (hasKey $key $member) (not (kindIs "string" (get $key $member))) -}}
        {{- fail (printf "authz.config.issuers.%s.jwks: %s is text, quote it: Helm would change it" $name $member) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.checkKeys" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
  {{- range $key, $value := .value -}}
    {{- include "authz-sidecar.checkKey" (dict "key" $key "path" $path "do" "give the configuration as authz.configText, and quote it there") -}}
    {{- include "authz-sidecar.checkKeys" (dict "value" $value "path" (printf "%s.%s" $path $key)) -}}
  {{- end -}}
{{- else if kindIs "slice" .value -}}
  {{- range $index, $value := .value -}}
    {{- include "authz-sidecar.checkKeys" (dict "value" $value "path" (printf "%s[%d]" $path $index)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* A key `NO` has become "false", and 1.0 "1": what it was is lost. */}}
{{- define "authz-sidecar.checkKey" -}}
{{- if regexMatch "^([-+]?[0-9]+(\\.[0-9]+)?(e[-+]?[0-9]+)?|true|false|null)$" .key -}}
  {{- fail (printf "%s: a key has become %q, and may have been another word: %s" .path .key .do) -}}
{{- end -}}
{{- end -}}

{{/* A file that the configuration names, and that no volume brings, is a pod that never becomes ready. */}}
{{- define "authz-sidecar.checkFiles" -}}
{{- $root := . -}}
{{- $mounts := list "/etc/ssl/" "/var/run/secrets/tokens/" -}}
{{- range .Values.authz.extraVolumeMounts -}}
  {{- if hasPrefix "/etc/authz/" (printf "%s/" .mountPath) -}}
    {{- fail (printf "authz.extraVolumeMounts: %s lies in /etc/authz, which is the configuration's own" .mountPath) -}}
  {{- end -}}
  {{- $mounts = append $mounts (printf "%s/" (trimSuffix "/" .mountPath)) -}}
{{- end -}}
{{- range .Values.authz.signingSecrets -}}
  {{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$" .) -}}
    {{- fail (printf "authz.signingSecrets: %s must be 1 to 50 of a-z, 0-9 and -: a volume has its name" .) -}}
  {{- end -}}
  {{- $mounts = append $mounts (printf "/var/run/secrets/signing/%s/" .) -}}
{{- end -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- $files := dict "dpop.nonce_secret_file" ($config.dpop | default dict).nonce_secret_file -}}
{{- range list "password_file" "ca_file" "client_cert_file" "client_key_file" -}}
  {{- $_ := set $files (printf "shared_state.%s" .) (get ($config.shared_state | default dict) .) -}}
{{- end -}}
{{- range $name, $issuer := $config.issuers -}}
  {{- $_ := set $files (printf "issuers.%s.jwks_file" $name) $issuer.jwks_file -}}
  {{- range list "ca_file" "client_cert_file" "client_key_file" "bearer_token_file" "proxy_credentials_file" -}}
    {{- $_ := set $files (printf "issuers.%s.fetch.%s" $name .) (get ($issuer.fetch | default dict) .) -}}
  {{- end -}}
  {{- range list "secret_file" "private_key_file" "bearer_token_file" -}}
    {{- $client := ($issuer.introspection | default dict).client | default dict -}}
    {{- $_ := set $files (printf "issuers.%s.introspection.client.%s" $name .) (get $client .) -}}
  {{- end -}}
{{- end -}}
{{- $signing := $config.signing | default dict -}}
{{- $_ := set $files "signing.rotation.shared_secret_file" ($signing.rotation | default dict).shared_secret_file -}}
{{- range $name, $key := $signing.keys -}}
  {{- range list "file" "pin_file" -}}
    {{- $_ := set $files (printf "signing.keys.%s.%s" $name .) (get $key .) -}}
  {{- end -}}
{{- end -}}
{{- $exchange := (($config.identity | default dict).token | default dict).exchange | default dict -}}
{{- range list "secret_file" "private_key_file" "bearer_token_file" -}}
  {{- $_ := set $files (printf "identity.token.exchange.client.%s" .) (get ($exchange.client | default dict) .) -}}
{{- end -}}
{{- range $name, $pdp := $config.pdps -}}
  {{- range list "ca_file" "client_cert_file" "client_key_file" "bearer_token_file" "basic_credentials_file" -}}
    {{- $_ := set $files (printf "pdps.%s.%s" $name .) (get $pdp .) -}}
  {{- end -}}
{{- end -}}
{{- $revocation := $config.revocation | default dict -}}
{{- $_ := set $files "revocation.file" $revocation.file -}}
{{- $_ := set $files "revocation.shared.secret_file" ($revocation.shared | default dict).secret_file -}}
{{- range $name, $list := $revocation.lists -}}
  {{- range list "file" "ca_file" "client_cert_file" "client_key_file" "bearer_token_file" -}}
    {{- $_ := set $files (printf "revocation.lists.%s.%s" $name .) (get $list .) -}}
  {{- end -}}
{{- end -}}
{{- range $name, $transmitter := $revocation.transmitters -}}
  {{- range list "ca_file" "push_token_file" "poll_token_file" -}}
    {{- $_ := set $files (printf "revocation.transmitters.%s.%s" $name .) (get $transmitter .) -}}
  {{- end -}}
{{- end -}}
{{- range $key, $file := $files -}}
  {{- if $file -}}
    {{- $found := false -}}
    {{- range $mounts -}}{{- if hasPrefix . (printf "%s/" $file) -}}{{- $found = true -}}{{- end -}}{{- end -}}
    {{- if not $found -}}
      {{- fail (printf "authz.config.%s is %s, and nothing is mounted there: see authz.extraVolumes and authz.extraVolumeMounts" $key $file) -}}
    {{- end -}}
    {{- $token := and (hasSuffix ".bearer_token_file" $key) (hasPrefix "/var/run/secrets/tokens/" $file) -}}
    {{- if and $token (contains "/" (trimPrefix "/var/run/secrets/tokens/" $file)) -}}
      {{- fail (printf "authz.config.%s must be a file right in /var/run/secrets/tokens" $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Two halves that contradict each other: what the sidecar accepts, and what Envoy lets through to it. */}}
{{- define "authz-sidecar.checkEnvoy" -}}
{{- $envoy := .Values.authz.envoy -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- range $config.rules -}}
  {{- if and (has "encoded_slash" .accept) (ne $envoy.escapedSlashes "KEEP_UNCHANGED") -}}
    {{- fail (printf "the rule %s accepts encoded_slash, but Envoy does not let it through: set authz.envoy.escapedSlashes to KEEP_UNCHANGED" (.name | default "without a name" | quote)) -}}
  {{- end -}}
  {{- if and (has "double_slash" .accept) $envoy.mergeSlashes -}}
    {{- fail (printf "the rule %s accepts double_slash, but Envoy merges slashes: set authz.envoy.mergeSlashes to false" (.name | default "without a name" | quote)) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/*
The most that a check may wait for facts, in milliseconds: the longest wait of each kind, for a check may need one of
each. As `authz envoy-config` has it (authz/tooling/envoy_config/derive.py).
*/}}
{{- define "authz-sidecar.maxWait" -}}
{{- $config := include "authz-sidecar.parsed" . | fromJson -}}
{{- $keys := list -}}{{- $introspections := list -}}{{- $statusLists := list -}}{{- $pdps := list -}}
{{- $remote := list -}}{{- $proofs := false -}}
{{- range $config.issuers -}}
  {{- $keys = append $keys ((.fetch | default dict).max_wait | default "1s") -}}
  {{- with .introspection -}}{{- $introspections = append $introspections (.max_wait | default "1s") -}}{{- end -}}
  {{- with .status_list -}}{{- $statusLists = append $statusLists (.max_wait | default "1s") -}}{{- end -}}
  {{- if ne (.dpop | default "never") "never" -}}{{- $proofs = true -}}{{- end -}}
{{- end -}}
{{- range $config.pdps -}}{{- $pdps = append $pdps (.max_wait | default "1s") -}}{{- end -}}
{{- $risk := list -}}
{{- with $config.risk -}}{{- $risk = list (.max_wait | default "500ms") -}}{{- end -}}
{{- $shared := list -}}
{{- if $proofs -}}{{- with $config.shared_state -}}{{- $shared = list (.timeout | default "500ms") -}}{{- end -}}{{- end -}}
{{- $exchanged := list -}}
{{- with ($config.identity | default dict).token -}}
  {{- if .exchange -}}
    {{- $exchanged = list (.exchange.max_wait | default "1s") -}}
  {{- else -}}
    {{- range ($config.signing | default dict).keys -}}
      {{- if not (has .kind (list "memory" "file")) -}}{{- $remote = append $remote (.max_wait | default "1s") -}}{{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $sum := 0 -}}
{{- range list $keys $introspections $statusLists $pdps $risk $shared $shared $exchanged $remote -}}
  {{- $longest := 0 -}}
  {{- range . -}}{{- $longest = max $longest (int (include "authz-sidecar.milliseconds" .)) -}}{{- end -}}
  {{- $sum = add $sum $longest -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{- define "authz-sidecar.milliseconds" -}}
{{- if hasSuffix "ms" . -}}{{ trimSuffix "ms" . }}
{{- else if hasSuffix "s" . -}}{{ mul 1000 (trimSuffix "s" . | int) }}
{{- else if hasSuffix "m" . -}}{{ mul 60000 (trimSuffix "m" . | int) }}
{{- else -}}{{ mul 3600000 (trimSuffix "h" . | int) }}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.name" -}}
{{- .Values.authz.nameOverride | default "authz" | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "authz-sidecar.fullname" -}}
{{- $name := include "authz-sidecar.name" . -}}
{{- if .Values.authz.fullnameOverride -}}
{{- .Values.authz.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (.Release.Name | trunc (sub 51 (len $name) | int) | trimSuffix "-") $name -}}
{{- end -}}
{{- end -}}

{{- define "authz-sidecar.configMapName" -}}
{{- .Values.authz.existingConfigMap | default (include "authz-sidecar.fullname" .) -}}
{{- end -}}

{{/* The label by which monitors find pods that carry the sidecar. */}}
{{- define "authz-sidecar.podLabels" -}}
authz-sidecar/release: {{ .Release.Name }}
{{- end -}}

{{- define "authz-sidecar.labels" -}}
{{- $own := dict "app.kubernetes.io/name" (include "authz-sidecar.name" .) "app.kubernetes.io/instance" .Release.Name -}}
{{- $_ := set $own "app.kubernetes.io/version" (toString .Subcharts.authz.Chart.AppVersion) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") -}}
{{- include "authz-sidecar.merge" (list (toYaml .Values.authz.commonLabels) (toYaml $own)) -}}
{{- end -}}

{{/* One mapping of several, each as YAML: a key stands there once, with the value of the first that has it. */}}
{{- define "authz-sidecar.merge" -}}
{{- $merged := dict -}}
{{- range . -}}{{- $merged = merge $merged (fromYaml .) -}}{{- end -}}
{{- with $merged -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{/* Labels by which the objects of a release find each other are not the operator's to change. */}}
{{- define "authz-sidecar.checkLabels" -}}
{{- $path := .path -}}
{{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "authz-sidecar/release" -}}
  {{- if hasKey $.labels $label -}}
    {{- fail (printf "%s: %s is set by the chart, which selects by it%s" $path $label (ternary "; nameOverride changes it" "" (eq $label "app.kubernetes.io/name"))) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* The pod's imagePullSecrets, as a list; nothing if there are none. */}}
{{- define "authz-sidecar.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat ((.Values.global | default dict).imagePullSecrets | default list) .Values.authz.imagePullSecrets -}}
  {{- $secrets = append $secrets (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $secrets | uniq -}}{{- toYaml . -}}{{- end -}}
{{- end -}}

{{- define "authz-sidecar.image" -}}
{{- include "authz-sidecar.imageOf" (dict "root" . "image" .Values.authz.image "version" .Subcharts.authz.Chart.AppVersion) -}}
{{- end -}}

{{/*
registry/repository@digest or registry/repository:tag. Takes a dict of the `root` context, the `image` and the `version`
for an empty tag. One registry for all charts of a release, global.imageRegistry, replaces the image's own.
*/}}
{{- define "authz-sidecar.imageOf" -}}
{{- $image := .image -}}
{{- with (.root.Values.global | default dict).imageRegistry | default $image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .version }}{{ end -}}
{{- end -}}

{{/* How many processes the configuration asks for. */}}
{{- define "authz-sidecar.workers" -}}
{{- dig "server" "workers" 1 (include "authz-sidecar.parsed" . | fromJson) | int -}}
{{- end -}}

{{/* Where Envoy finds the sidecar, as a JSON list of `unix:/path` or `host:port`: one endpoint for each worker. */}}
{{- define "authz-sidecar.endpoints" -}}
{{- $values := .Values.authz -}}
{{- $workers := include "authz-sidecar.workers" . | int -}}
{{- $endpoints := list -}}
{{- range until $workers -}}
  {{- if $values.tcp -}}
    {{- $endpoints = append $endpoints (printf "%s:%d" $values.tcp.service (add $values.tcp.port .)) -}}
  {{- else -}}
    {{- $endpoints = append $endpoints (printf "unix:%s/authz%s.sock" $values.socket.directory (ternary (printf "-%d" .) "" (gt $workers 1))) -}}
  {{- end -}}
{{- end -}}
{{- toJson $endpoints -}}
{{- end -}}
