"""What is wrong in the values is refused, and the message names the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import HELMS, Charts

pytestmark = pytest.mark.needs("helm")

Changes = dict[str, Any]


def deep(path: str, value: object, /) -> Changes:
    """A value at a path of keys, `a.b.c`."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


ISSUER: Final = "authz.config.issuers.corporate"
PDP: Final = "https://pdp.example.com/access/v1/evaluation"
ON: Final = {"enabled": True}
RULE: Final = {"name": "files", "match": {"paths": ["/files/{name}"]}}

# By the schema: a typo, or a value of the wrong kind. What the message must say, in the words of either Helm.
SCHEMA: Final = [
    ("proxy", deep(f"{ISSUER}.audience", ["x"]), ["corporate", "audience"]),
    ("proxy", deep(f"{ISSUER}.algorithms", "RS256"), ["corporate", "algorithms"]),
    ("proxy", deep(f"{ISSUER}.leeway", "30"), ["corporate", "leeway"]),
    ("proxy", deep(f"{ISSUER}.fetch.cool_down", "30s"), ["corporate", "fetch", "cool_down"]),
    ("proxy", deep("authz.config.issuer", {}), ["config", "issuer"]),
    ("proxy", deep("authz.config.rules", []), ["config", "rules"]),
    ("proxy", deep("authz.config.rules", [{**RULE, "allow": "everybody"}]), ["config", "rules", "0", "allow"]),
    ("proxy", deep("authz.config.version", 2), ["config", "version"]),
    ("proxy", deep("authz.image.registy", "x"), ["image", "registy"]),
    ("proxy", deep("authz.image.digest", "sha256:12"), ["image", "digest"]),
    ("proxy", deep("authz.envoy.failureModeAllow", "false"), ["envoy", "failureModeAllow"]),
    ("proxy", deep("authz.envoy.rateLimit.address.burst", 0), ["rateLimit", "address", "burst"]),
    ("proxy", deep("authz.otel", {"PATH": "/"}), ["otel", "PATH"]),
    ("proxy", deep("authz.tcp", {"port": 9191}), ["tcp"]),
    ("proxy", deep("mode", "sidecar"), ["mode"]),
    ("proxy", deep("proxy.upstream.hosts", "x"), ["proxy", "upstream", "hosts"]),
    ("proxy", deep("proxy.routes", [{"prefix": "/x", "authz": "false"}]), ["routes", "0", "authz"]),
    ("proxy", deep("proxy.cors.allowOrigins", ["https://app.example.com/"]), ["cors", "allowOrigins", "0"]),
    ("proxy", deep("proxy.cors.allowOrigins", ["*"]), ["cors", "allowOrigins", "0"]),
    ("server", deep("server.port", 80), ["server", "port"]),
    ("server", deep("replicas", 3), ["replicas"]),
    ("proxy", deep("authz.prometheusRule.alerts.AuthzSlwo", {"enabled": False}), ["alerts", "AuthzSlwo"]),
    ("proxy", deep("authz.prometheusRule.alerts.AuthzSlow.thresholds.ms", 1), ["AuthzSlow", "thresholds", "ms"]),
]

# By the templates: what is missing, or contradicts.
TEMPLATES: Final = [
    ("proxy", deep("authz.image.repository", ""), "authz.image.repository is not set"),
    ("proxy", deep("authz.existingConfigMap", "x"), "authz.config and authz.existingConfigMap are both set"),
    ("existing-config", deep("authz.existingConfigMap", ""), "authz.config is not set"),
    ("proxy", deep("authz.config.server.listen", "unix:/x"), "authz.config.server.listen must not be set"),
    ("proxy", deep("authz.config.admin.listen", "0.0.0.0:1"), "authz.config.admin must not be set"),
    (
        "proxy",
        deep(f"{ISSUER}.introspection.client", {"id": "orders", "secret_file": "/etc/secret"}),
        f"{ISSUER}.introspection.client.secret_file is /etc/secret, and nothing",
    ),
    (
        "proxy",
        deep(f"{ISSUER}.introspection.client.bearer_token_file", "/var/run/secrets/tokens/a/b"),
        f"{ISSUER}.introspection.client.bearer_token_file must be a file right in",
    ),
    ("proxy", deep("authz.config.dpop.nonce_secret_file", "/x/nonce"), "dpop.nonce_secret_file is /x/nonce, and"),
    (
        "proxy",
        deep("authz.config.pdps.p", {"url": PDP, "basic_credentials_file": "/x/pair"}),
        "authz.config.pdps.p.basic_credentials_file is /x/pair, and nothing",
    ),
    (
        "proxy",
        deep("authz.config.pdps.p", {"url": "http://cerbos.shop.svc:3592/access/v1/evaluation"}),
        "networkPolicy.issuers is empty, and the PDP p is at cerbos.shop.svc",
    ),
    ("proxy", deep("authz.config.revocation.file", "/events"), "authz.config.revocation.file is /events, and nothing"),
    (
        "proxy",
        deep("authz.config.revocation.lists.ours", {"file": "/l"}),
        "authz.config.revocation.lists.ours.file is /l, and nothing",
    ),
    ("proxy", deep(f"{ISSUER}.jwks_file", "/keys/jwks.json"), f"{ISSUER}.jwks_file is /keys/jwks.json, and nothing"),
    ("proxy", deep(f"{ISSUER}.fetch.ca_file", "/ca.crt"), f"{ISSUER}.fetch.ca_file is /ca.crt, and nothing"),
    ("proxy", deep(f"{ISSUER}.fetch.client_key_file", "/k"), f"{ISSUER}.fetch.client_key_file is /k, and nothing"),
    ("proxy", deep(f"{ISSUER}.fetch.proxy_credentials_file", "/p"), "fetch.proxy_credentials_file is /p, and nothing"),
    ("proxy", deep("authz.config.rules", [{**RULE, "accept": ["encoded_slash"]}]), "authz.envoy.escapedSlashes"),
    ("proxy", deep("authz.config.rules", [{**RULE, "accept": ["double_slash"]}]), "authz.envoy.mergeSlashes"),
    ("proxy", deep("authz.extraVolumeMounts", [{"name": "x", "mountPath": "/etc/authz/x"}]), "lies in /etc/authz"),
    ("proxy", deep("authz.envoy.rateLimit.address", {"enabled": True}), "authz.envoy.trustedHops is not set"),
    ("proxy", deep("proxy.upstream.host", ""), "proxy.upstream.host is not set"),
    ("proxy", deep("proxy.upstream.podLabels", None), "proxy.upstream.podLabels is not set"),
    ("proxy", deep("proxy.upstream.tls", {"enabled": True}), "proxy.upstream.tls.caSecret is not set"),
    ("proxy", deep("proxy.tracing", {"enabled": True}), "proxy.tracing.host is not set"),
    ("proxy", deep("proxy.tracing", {"enabled": True, "host": "c"}), "networkPolicy.collector is empty"),
    ("proxy", deep("proxy.routes", [{"prefix": "/", "authz": False, "rule": "x"}]), "proxy.routes[0] has both"),
    (
        "proxy",
        deep("podLabels", {"app.kubernetes.io/name": "x"}),
        "podLabels: app.kubernetes.io/name is set by the chart",
    ),
    ("proxy", deep("commonLabels", {"authz-sidecar/release": "x"}), "commonLabels: authz-sidecar/release is set by"),
    ("proxy", deep("ingress", {"enabled": True}), "ingress.hosts is empty"),
    ("proxy", deep("httpRoute", {"enabled": True}), "httpRoute.parentRefs is empty"),
    ("server", deep("ingress", {"enabled": True}), "ingress.enabled goes with mode proxy"),
    ("proxy", deep("authz", {"podMonitor": ON, "serviceMonitor": ON}), "every pod would be scraped twice"),
    ("proxy", deep("authz.prometheusRule", ON), "authz.prometheusRule.enabled without authz.podMonitor"),
    ("proxy", deep(f"{ISSUER}.issuer", "https://keycloak.auth.svc"), "networkPolicy.issuers is empty"),
    ("proxy", deep(f"{ISSUER}.jwks_uris", ["http://keys/a", "https://b.example/"]), "is at keys: give its pods"),
    ("proxy", deep(f"{ISSUER}.issuer", "https://kubernetes.default.svc"), "networkPolicy.apiServer is empty"),
    ("proxy", deep(f"{ISSUER}.fetch.proxy", "http://proxy.example:3128"), "networkPolicy.fetchProxy is empty"),
    (
        "proxy",
        deep("authz.otel", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel:4317"}),
        "collector is empty, and the side",
    ),
    (
        "proxy",
        deep("authz.config.shared_state", {"url": "rediss://valkey.shop.svc"}),
        "networkPolicy.sharedState is empty, and shared_state is at valkey.shop.svc",
    ),
    (
        "proxy",
        deep("authz.config.shared_state", {"url": "redis://localhost", "password_file": "/secrets/valkey"}),
        "authz.config.shared_state.password_file is /secrets/valkey, and nothing is mounted there",
    ),
    ("proxy", deep("proxy.grpcWeb", {"enabled": True}), "set proxy.upstream.protocol to http2"),
    (
        "proxy",
        deep("proxy", {"websocket": {"enabled": True}, "upstream": {"protocol": "http2"}}),
        "needs an upstream that speaks HTTP/1",
    ),
    ("proxy", deep("terminationGracePeriodSeconds", 29), "terminationGracePeriodSeconds is 29: it must be at least 30"),
    ("server", deep("server.tls.existingSecret", ""), "server.tls.existingSecret is not set"),
    (
        "server",
        deep("authz.config.server.workers", 2),
        "authz.adminPort 9192 is one of the server's ports, 9191 to 9192",
    ),
]


def refusal(charts: Charts, helm: str, verb: Sequence[str], base: str, changes: Changes) -> str:
    """What Helm says when it refuses the values."""
    extra = charts.folder / "refused.yaml"
    extra.write_text(yaml.safe_dump(changes), encoding="utf-8")
    done = charts.run(helm, *verb, charts.app, "--values", charts.app / f"ci/{base}-values.yaml", "--values", extra)
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(("base", "changes", "named"), SCHEMA, ids=lambda value: str(value)[:60])
def test_schema_names_the_field(charts: Charts, helm: str, base: str, changes: Changes, named: list[str]) -> None:
    """A typo fails `helm lint`, and the message has every step of the way to it."""
    said = refusal(charts, helm, ("lint",), base, changes)
    assert all(step in said for step in named), said


@pytest.mark.parametrize("helm", HELMS)
@pytest.mark.parametrize(("base", "changes", "named"), TEMPLATES, ids=lambda value: str(value)[:60])
def test_template_names_the_field(charts: Charts, helm: str, base: str, changes: Changes, named: str) -> None:
    """What is missing or contradicts fails `helm template`, in a sentence that says what to do."""
    assert named in refusal(charts, helm, ("template", "orders"), base, changes)


@pytest.mark.parametrize("helm", HELMS)
def test_library_without_its_alias_says_so(charts: Charts, helm: str) -> None:
    """A chart that forgot `alias: authz` gets an error that says what to write, and where."""
    chart = charts.folder / "examples/forgetful"
    for part in ("templates", "charts"):
        (chart / part).mkdir(parents=True, exist_ok=True)
    (chart / "Chart.yaml").write_text(
        "apiVersion: v2\nname: forgetful\nversion: 0.1.0\ndependencies:\n"
        "  - {name: authz-sidecar, version: 0.1.0, repository: file://../../charts/authz-sidecar}\n"
    )
    (chart / "templates/all.yaml").write_text('{{ include "authz-sidecar.manifests" . }}\n')
    charts.say("helm4", "dependency", "build", "--skip-refresh", chart)
    done = charts.run(helm, "template", "x", chart)
    assert "give the dependency authz-sidecar the line `alias: authz`" in done.stderr
