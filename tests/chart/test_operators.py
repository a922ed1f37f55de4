"""What operators expect of a chart: names, labels, contexts, more of everything, routes, scaling, two IP families."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import HELMS, Charts, Document, container, containers, only, pod_specs

pytestmark = pytest.mark.needs("helm")


def pod(documents: list[Document]) -> Document:
    """The template of the Deployment's pods."""
    template: Document = only(documents, "Deployment")["spec"]["template"]
    return template


@pytest.mark.parametrize("helm", HELMS)
def test_openshift_chooses_user_and_groups(charts: Charts, helm: str) -> None:
    """With null for them no pod names a uid, a gid or an fsGroup, and none is 0; the rest of the contexts stays."""
    free = {"socket": {"group": None}, "securityContext": {"runAsUser": None, "runAsGroup": None}}
    documents = charts.with_values("proxy", {"authz": free}, helm=helm)
    specs = pod_specs(documents)
    assert len(specs) == 3
    for spec in specs:
        for context in [spec["securityContext"], *(one["securityContext"] for one in containers(spec))]:
            assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}
            assert context["runAsNonRoot"] is True
        assert all(one["securityContext"]["capabilities"] == {"drop": ["ALL"]} for one in containers(spec))


def test_contexts_are_the_operators_to_change(charts: Charts) -> None:
    """Keys are added to those of pod and sidecar; Envoy has a context of its own on demand."""
    changes = {
        "authz": {
            "podSecurityContext": {"supplementalGroups": [7], "fsGroup": 8},
            "securityContext": {"runAsUser": 9},
        },
        "proxy": {"securityContext": {"runAsUser": 10}},
    }
    spec = pod(charts.with_values("proxy", changes))["spec"]
    assert (spec["securityContext"]["supplementalGroups"], spec["securityContext"]["fsGroup"]) == ([7], 8)
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(spec, "authz")["securityContext"]["runAsUser"] == 9
    assert container(spec, "authz")["securityContext"]["readOnlyRootFilesystem"] is True
    assert container(spec, "envoy")["securityContext"] == {"runAsUser": 10}


@pytest.mark.parametrize(
    ("changes", "name", "label"),
    [
        ({}, "orders-authz", "authz"),
        ({"nameOverride": "gate"}, "orders-gate", "gate"),
        ({"nameOverride": "orders"}, "orders", "orders"),
        ({"fullnameOverride": "gate"}, "gate", "authz"),
        ({"authz": {"fullnameOverride": "gate"}}, "gate", "authz"),
    ],
)
def test_names_are_the_operators_to_choose(charts: Charts, changes: dict[str, Any], name: str, label: str) -> None:
    """Every object has the name, and selectors follow the label."""
    documents = charts.with_values("proxy", changes)
    assert {one["metadata"]["name"].removesuffix("-envoy").split("-check")[0] for one in documents} <= {
        name,
        f"{name}-upstream",
        f"{name}-test",
    }
    selector = only(documents, "Deployment")["spec"]["selector"]["matchLabels"]
    assert selector["app.kubernetes.io/name"] == label
    assert selector.items() <= pod(documents)["metadata"]["labels"].items()
    assert only(documents, "Service")["spec"]["selector"] == selector


def test_common_labels_are_on_every_object_and_pod(charts: Charts) -> None:
    """And where the chart has such a label itself, there is one, the operator's."""
    labels = {"example.com/team": "platform", "app.kubernetes.io/version": "7"}
    for name in ("proxy-full", "server", "config-only"):
        documents = charts.with_values(name, {"commonLabels": labels, "extraObjects": []})
        assert all(labels.items() <= one["metadata"]["labels"].items() for one in documents), name
        templates = [one["spec"]["template"] for one in documents if one["kind"] in {"Deployment", "Job"}]
        assert all(labels.items() <= one["metadata"]["labels"].items() for one in templates)
        for one in documents:
            selector = one.get("spec", {}).get("selector", {})
            assert "example.com/team" not in str(selector), one["kind"]


def test_annotations_that_the_chart_sets_too_stand_there_once(charts: Charts) -> None:
    """The operator's value counts: YAML with a key twice is refused by some, and read either way by others."""
    key = "kubectl.kubernetes.io/default-container"
    changes = {"podAnnotations": {key: "authz", "example.com/a": "b"}}
    (charts.folder / "annotations.yaml").write_text(yaml.safe_dump(changes))
    values = ("--values", charts.app / "ci/proxy-values.yaml", "--values", charts.folder / "annotations.yaml")
    text = charts.say("helm4", "template", "orders", charts.app, *values, "--show-only", "templates/deployment.yaml")
    assert text.count(key) == 1
    annotations = yaml.safe_load(text)["spec"]["template"]["metadata"]["annotations"]
    assert annotations[key] == "authz"
    assert annotations.keys() > {"example.com/a", "authz/envoy-checksum", "authz-sidecar/config-checksum"}


MORE: Final = {
    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["login.example.com"]}],
    "strategy": {"type": "Recreate"},
    "revisionHistoryLimit": 3,
    "extraContainers": [{"name": "more", "image": "more:1", "args": ["{{ .Release.Name }}"]}],
    "extraObjects": [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{{ .Release.Name }}-a"}},
        "apiVersion: v1\nkind: Secret\nmetadata: {name: {{ .Release.Name }}-b}\n",
    ],
    "authz": {
        "extraEnv": [{"name": "A", "value": "1"}],
        "extraEnvFrom": [{"configMapRef": {"name": "sidecar"}}],
    },
    "proxy": {
        "extraEnv": [{"name": "B", "value": "2"}],
        "extraEnvFrom": [{"secretRef": {"name": "envoy"}}],
        "extraVolumes": [{"name": "files", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "files", "mountPath": "/files"}],
    },
}


def test_more_of_everything(charts: Charts) -> None:
    """Containers, variables, volumes, hosts and objects of the operator's stand beside the chart's own."""
    documents = charts.with_values("proxy", MORE)
    deployment = only(documents, "Deployment")["spec"]
    assert (deployment["strategy"], deployment["revisionHistoryLimit"]) == ({"type": "Recreate"}, 3)
    spec = deployment["template"]["spec"]
    assert spec["hostAliases"] == MORE["hostAliases"]
    assert container(spec, "more")["args"] == ["orders"]
    sidecar, envoy = container(spec, "authz"), container(spec, "envoy")
    assert (sidecar["env"], envoy["env"]) == ([{"name": "A", "value": "1"}], [{"name": "B", "value": "2"}])
    assert sidecar["envFrom"] == [{"configMapRef": {"name": "sidecar"}}]
    assert envoy["envFrom"] == [{"secretRef": {"name": "envoy"}}]
    assert {"name": "files", "mountPath": "/files"} in envoy["volumeMounts"]
    assert {"name": "files", "emptyDir": {}} in spec["volumes"]
    secrets = [one["metadata"]["name"] for one in documents if one["kind"] == "Secret"]
    assert secrets == ["orders-a", "orders-b"]


def test_one_registry_and_its_secrets_for_every_image(charts: Charts) -> None:
    """`global.imageRegistry` replaces the registries of both images; secrets are those of both lists, each once."""
    changes = {
        "global": {"imageRegistry": "mirror.example.com", "imagePullSecrets": ["mirror", {"name": "other"}]},
        "imagePullSecrets": [{"name": "mirror"}, {"name": "own"}],
    }
    specs = pod_specs(charts.with_values("proxy", changes))
    images = {one["image"] for spec in specs for one in containers(spec)}
    assert images == {
        "mirror.example.com/platform/authz:0.1.0",
        "mirror.example.com/envoyproxy/envoy:distroless-v1.40.0",
    }
    assert all([one["name"] for one in spec["imagePullSecrets"]] == ["mirror", "other", "own"] for spec in specs)


def test_service_takes_its_kinds_of_addresses_and_its_node_port(charts: Charts) -> None:
    """Families, policy, node port and the load balancer's keys are written where they are asked for."""
    asked = {
        "ipFamilies": ["IPv6", "IPv4"],
        "ipFamilyPolicy": "RequireDualStack",
        "externalTrafficPolicy": "Local",
        "loadBalancerClass": "example.com/internal",
        "type": "LoadBalancer",
    }
    service = only(charts.with_values("proxy", {"service": {**asked, "nodePort": 30080}}), "Service")["spec"]
    assert asked.items() <= service.items()
    assert service["ports"][0]["nodePort"] == 30080
    plain = only(charts.with_values("proxy", {}), "Service")["spec"]
    assert plain["ipFamilyPolicy"] == "SingleStack"  # a Service that had two kinds is refused without it
    assert not plain.keys() & {"ipFamilies", "externalTrafficPolicy", "loadBalancerClass"}
    assert "nodePort" not in plain["ports"][0]


@pytest.mark.parametrize("changes", [{"authz": {"ipv6": True}}, {"service": {"ipFamilies": ["IPv6"]}}])
@pytest.mark.parametrize("name", ["proxy", "server"])
def test_ipv6_listens_on_both_kinds_of_addresses(charts: Charts, name: str, changes: dict[str, Any]) -> None:
    """Admin port, the server's port and Envoy's two are on `::`, for clusters of either kind and of both."""
    documents = charts.with_values(name, changes)
    config = yaml.safe_load(only(documents, "ConfigMap", name="orders-authz")["data"]["authz.yaml"])
    assert config["admin"]["listen"] == "[::]:9192"
    if name == "server":
        assert config["server"]["listen"] == "[::]:9191"
        return
    envoy = yaml.safe_load(only(documents, "ConfigMap", name="orders-authz-envoy")["data"]["envoy.yaml"])
    listening = [one["address"]["socket_address"] for one in envoy["static_resources"]["listeners"]]
    assert [one["port_value"] for one in listening] == [8080, 9902]
    assert all((one["address"], one["ipv4_compat"]) == ("::", True) for one in listening)


def test_ingress_and_route_lead_to_envoy(charts: Charts) -> None:
    """An Ingress and an HTTPRoute name the chart's own Service, at its port."""
    changes = {
        "proxy": {"tls": {"existingSecret": "envoy-tls"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"a": "b"},
            "hosts": [{"host": "orders.example.com"}, {"host": "x.example.com", "paths": [{"path": "/x"}]}],
            "tls": [{"hosts": ["orders.example.com"], "secretName": "orders-tls"}],
        },
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "public", "namespace": "gateways"}],
            "hostnames": ["orders.example.com"],
        },
    }
    documents = charts.with_values("proxy", changes)
    ingress, route = only(documents, "Ingress"), only(documents, "HTTPRoute")
    assert ingress["spec"]["ingressClassName"] == "nginx"
    backend = {"service": {"name": "orders-authz", "port": {"number": 443}}}
    assert [rule["http"]["paths"] for rule in ingress["spec"]["rules"]] == [
        [{"path": "/", "pathType": "Prefix", "backend": backend}],
        [{"path": "/x", "pathType": "Prefix", "backend": backend}],
    ]
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "orders-authz", "port": 443}]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    kinds = {one["kind"] for one in charts.with_values("proxy", {})}
    assert not kinds & {"Ingress", "HTTPRoute"}


def test_spread_counts_the_pods_of_the_release(charts: Charts) -> None:
    """A constraint without a selector, which Kubernetes takes for one that matches no pod, gets that of the pods."""
    asked = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    own = {**asked, "labelSelector": {"matchLabels": {"a": "b"}}}
    documents = charts.with_values("proxy", {"topologySpreadConstraints": [asked, own]})
    first, second = pod(documents)["spec"]["topologySpreadConstraints"]
    assert first == {**asked, "labelSelector": only(documents, "Deployment")["spec"]["selector"]}
    assert second == own


def test_scaling_by_memory_and_a_budget_of_available_pods(charts: Charts) -> None:
    """The autoscaler has the metrics and the behaviour that are asked for, the budget one of its two bounds."""
    behavior = {"scaleUp": {"stabilizationWindowSeconds": 60}}
    changes = {
        "autoscaling": {"enabled": True, "targetMemoryUtilizationPercentage": 80, "behavior": behavior},
        "podDisruptionBudget": {"minAvailable": "50%"},
    }
    documents = charts.with_values("proxy", changes)
    scaler = only(documents, "HorizontalPodAutoscaler")["spec"]
    names = [(one["resource"]["name"], one["resource"]["target"]["averageUtilization"]) for one in scaler["metrics"]]
    assert names == [("cpu", 70), ("memory", 80)]
    assert scaler["behavior"] == behavior
    budget = only(documents, "PodDisruptionBudget")["spec"]
    assert budget["minAvailable"] == "50%"
    assert "maxUnavailable" not in budget
