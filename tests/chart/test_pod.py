"""What a pod may do, and who may reach it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart.helm import HELMS, Charts, container, containers, only, pod_specs

pytestmark = pytest.mark.needs("helm")


def test_every_container_keeps_the_restricted_standard(charts: Charts) -> None:
    """Restricted Pod Security Standard, uid 65532, a root that no one writes to; those of the helm test too."""
    seen = 0
    for chart, values in charts.cases:
        for spec in pod_specs(charts.case(chart, values)):
            assert spec["automountServiceAccountToken"] is False
            assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
            assert all("hostPath" not in volume for volume in spec["volumes"])
            for one in containers(spec):
                seen += 1
                assert one["securityContext"] == {
                    "runAsNonRoot": True,
                    "runAsUser": 65532,
                    "runAsGroup": 65532,
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                }
    assert seen > 12


def test_sidecar_starts_before_envoy_and_shares_its_socket(charts: Charts) -> None:
    """A native sidecar with a startup probe, a folder in memory, and a group that both are of."""
    for chart, values in ((charts.app, charts.app / "ci/proxy-values.yaml"), (charts.consumer, None)):
        spec = only(charts.case(chart, values), "Deployment")["spec"]["template"]["spec"]
        first = spec["initContainers"][0]
        assert (first["name"], first["restartPolicy"]) == ("authz", "Always")
        assert first["startupProbe"]["httpGet"]["path"] == "/livez"
        assert first["readinessProbe"]["httpGet"]["path"] == "/readyz"
        socket = {"name": "authz-socket", "mountPath": "/run/authz"}
        assert socket in first["volumeMounts"]
        assert socket in container(spec, "envoy")["volumeMounts"]
        folder = {"name": "authz-socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
        assert folder in spec["volumes"]
        assert spec["securityContext"]["fsGroup"] == 65532
        assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


@pytest.mark.parametrize("helm", HELMS)
def test_signing_keys_are_mounted_for_the_sidecar_alone(charts: Charts, helm: str) -> None:
    """Read-only, with the mode that lets no one else read; for a group the kubelet adds that it may read."""
    key = {"kind": "file", "file": "/var/run/secrets/signing/orders-keys/tls.key"}
    authz = {"signingSecrets": ["orders-keys"], "config": {"signing": {"keys": {"main": key}}}}
    for name in ("proxy", "server"):
        spec = only(charts.with_values(name, {"authz": authz}, helm=helm), "Deployment")["spec"]["template"]["spec"]
        volume = {"name": "authz-signing-orders-keys", "secret": {"secretName": "orders-keys", "defaultMode": 0o400}}
        assert volume in spec["volumes"]
        mounts = {one["name"]: one.get("volumeMounts", []) for one in containers(spec)}
        place = {"name": volume["name"], "mountPath": "/var/run/secrets/signing/orders-keys", "readOnly": True}
        assert place in mounts.pop("authz")
        assert not [mount for several in mounts.values() for mount in several if mount["name"] == volume["name"]]
        assert spec["securityContext"]["fsGroup"]


def test_plain_container_stays_until_envoy_is_done(charts: Charts) -> None:
    """Without native sidecars, the sidecar is the last container, and stops after Envoy: it drains it, or sleeps."""
    drains = ["/usr/bin/python3", "-m", "authz", "drain-envoy", "127.0.0.1:9901", "--wait", "30"]
    for chart, values, hook in (
        (charts.app, charts.app / "ci/existing-config-values.yaml", {"exec": {"command": drains}}),
        (charts.consumer, None, {"sleep": {"seconds": 15}}),
    ):
        arguments = () if values is None else ("--values", values)
        documents = charts.render(chart, *arguments, "--set", "authz.nativeSidecar=false")
        last = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"][-1]
        assert last["name"] == "authz"
        assert "restartPolicy" not in last
        assert last["lifecycle"] == {"preStop": hook}


def test_only_an_issuer_that_asks_gets_a_token(charts: Charts) -> None:
    """A service-account token is projected where `bearer_token_file` names it, with the cluster's CA beside it."""

    def tokens(name: str) -> list[Any]:
        spec = only(charts.case(charts.app, charts.app / f"ci/{name}-values.yaml"), "Deployment")
        volumes = spec["spec"]["template"]["spec"]["volumes"]
        return [volume["projected"]["sources"] for volume in volumes if "projected" in volume]

    assert tokens("proxy") == []
    ca = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    assert tokens("proxy-full") == [[{"serviceAccountToken": {"path": "issuer", "expirationSeconds": 3600}}, ca]]
    client = {"bearer_token_file": "/var/run/secrets/tokens/asking"}
    issuers = {"corporate": {"introspection": {"client": client}}}
    asking = only(charts.with_values("proxy", {"authz": {"config": {"issuers": issuers}}}), "Deployment")
    volumes = asking["spec"]["template"]["spec"]["volumes"]
    (projected,) = (volume["projected"] for volume in volumes if "projected" in volume)
    assert projected["sources"][0] == {"serviceAccountToken": {"path": "asking", "expirationSeconds": 3600}}
    pdps = {"p": {"url": "https://pdp.example.com/access/v1/evaluation", **client}}
    asking = only(charts.with_values("proxy", {"authz": {"config": {"pdps": pdps}}}), "Deployment")
    volumes = asking["spec"]["template"]["spec"]["volumes"]
    (projected,) = (volume["projected"] for volume in volumes if "projected" in volume)
    assert projected["sources"][0] == {"serviceAccountToken": {"path": "asking", "expirationSeconds": 3600}}


def test_otel_variables_reach_the_sidecar(charts: Charts) -> None:
    """What `authz.otel` says is in the sidecar's environment, and in Envoy's it is not."""
    spec = only(charts.case(charts.app, charts.app / "ci/proxy-full-values.yaml"), "Deployment")
    pod = spec["spec"]["template"]["spec"]
    assert {"name": "OTEL_SERVICE_NAME", "value": "orders-authz"} in container(pod, "authz")["env"]
    assert not [one for one in container(pod, "envoy")["env"] if one["name"].startswith("OTEL_")]


def test_nobody_reaches_the_upstream_around_envoy(charts: Charts) -> None:
    """The upstream's pods take connections of the proxy's pods only, which the policy selects by their own labels."""
    documents = charts.case(charts.app, charts.app / "ci/proxy-values.yaml")
    policy = only(documents, "NetworkPolicy", name="orders-authz-upstream")["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": "orders"}}
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    (peer,) = rule["from"]
    labels = only(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    helm_test = only(documents, "Pod")["metadata"]["labels"]
    assert not peer["podSelector"]["matchLabels"].items() <= helm_test.items()


def test_a_server_is_found_pod_by_pod(charts: Charts) -> None:
    """The Service of a server is headless, its pods spread, its TLS mounted, and the configuration knows where."""
    documents = charts.case(charts.app, charts.app / "ci/server-values.yaml")
    assert only(documents, "Service")["spec"]["clusterIP"] == "None"
    config = yaml.safe_load(only(documents, "ConfigMap", name="orders-authz")["data"]["authz.yaml"])
    assert config["server"]["listen"] == "0.0.0.0:9191"
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    (mount,) = (one for one in container(spec, "authz")["volumeMounts"] if one["name"] == "authz-tls")
    assert all(config["server"]["tls"][key].startswith(f"{mount['mountPath']}/") for key in config["server"]["tls"])
    assert [volume["name"] for volume in spec["volumes"]].count("authz-tls") == 1
    assert {one["topologyKey"] for one in spec["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert only(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == "orders-authz"
    assert only(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_every_worker_is_reached_and_none_but_them_needs_a_folder(charts: Charts) -> None:
    """A port of each in pod, Service and policy; a folder in memory for what a supervisor and its workers say."""
    one, three = (
        charts.with_values("server", {"authz": {"adminPort": 9199, "config": {"server": {"workers": workers}}}})
        for workers in (1, 3)
    )
    folder = {"name": "authz-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    for documents, ports in ((one, [9191]), (three, [9191, 9192, 9193])):
        pod = only(documents, "Deployment")["spec"]["template"]["spec"]
        sidecar = container(pod, "authz")
        bound = {port["name"]: port["containerPort"] for port in sidecar["ports"] if port["name"] != "authz-admin"}
        assert list(bound.values()) == ports
        served = only(documents, "Service")["spec"]["ports"]
        assert [(port["port"], bound[port["targetPort"]]) for port in served] == [(port, port) for port in ports]
        policy = only(documents, "NetworkPolicy", name="orders-authz")["spec"]
        assert [port["port"] for port in policy["ingress"][0]["ports"]] == ports
        mounted = {"name": "authz-tmp", "mountPath": "/tmp"} in sidecar["volumeMounts"]  # noqa: S108 - in the pod
        assert (folder in pod["volumes"], mounted) == (len(ports) > 1, len(ports) > 1)
