"""The files of deploy/: the kustomize component built by kubectl, containers compared, the first page rendered."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from authz.admin.receivers import MAX_MESSAGE_BYTES
from authz.config.load import load, parse
from authz.tooling.envoy_config.derive import derive
from authz.tooling.envoy_config.fragments import EnvoyReceiver
from authz.tooling.envoy_config.receiver import DEFAULT_PREFIX, MAX_CONNECTIONS, PATHS, receiver_filters
from tests.chart.helm import DEPLOY, Charts, Document, container, containers, only
from tests.documents.pages import blocks
from tests.tools import TOOLS

EXAMPLE = DEPLOY / "kustomize/example"


def kustomize(folder: Path) -> list[Document]:
    """What `kubectl kustomize` makes of a folder."""
    argv = [str(TOOLS / "helm/kubectl"), "kustomize", str(folder)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module")
def sidecar(charts: Charts) -> Document:
    """The container that the library chart renders: what all other ways must be like."""
    pod = only(charts.case(charts.consumer, None), "Deployment")["spec"]["template"]["spec"]
    return container(pod, "authz")


@pytest.mark.needs("helm")
def test_component_puts_the_chart_s_container_into_a_deployment(sidecar: Document) -> None:
    """The overlay's pod has the very container of the chart and its volumes; the rest stays."""
    documents = kustomize(EXAMPLE)
    pod = only(documents, "Deployment")["spec"]["template"]["spec"]
    assert container(pod, "authz") == sidecar
    assert [one["name"] for one in pod["containers"]] == ["envoy", "orders"]
    names = {document["metadata"]["name"] for document in documents if document["kind"] == "ConfigMap"}
    mounted = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert mounted == names
    socket = {"name": "authz-socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    assert socket in pod["volumes"]


@pytest.mark.needs("helm")
def test_component_leaves_other_deployments_alone(tmp_path: Path) -> None:
    """A Deployment without the label is not touched."""
    text = (EXAMPLE / "deployment.yaml").read_text().replace("labels: {authz-sidecar: enabled}", "labels: {a: b}")
    deployment = with_component(tmp_path, yaml.safe_load(text))
    assert "initContainers" not in deployment["spec"]["template"]["spec"]


@pytest.mark.needs("helm")
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_component_changes_nothing_that_it_does_not_say(tmp_path: Path, sidecar: Document, kind: str) -> None:
    """In each kind the sidecar starts first, and group, tokens, volumes and containers stay as they were."""
    spec = {
        "securityContext": {"fsGroup": 2000, "runAsUser": 1000},
        "automountServiceAccountToken": True,
        "initContainers": [{"name": "migrate", "image": "migrate:1"}],
        "containers": [{"name": "app", "image": "app:1"}],
        "volumes": [{"name": "files", "emptyDir": {}}],
    }
    template = {"metadata": {"labels": {"app": "a"}}, "spec": spec}
    labels = {"authz-sidecar": "enabled"}
    made = with_component(
        tmp_path,
        {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": "a", "labels": labels},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template},
        },
    )
    pod = made["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["authz", "migrate"]
    assert pod["initContainers"][0] | {"image": sidecar["image"]} == sidecar
    assert {volume["name"] for volume in pod["volumes"]} == {"files", "authz-config", "authz-socket"}
    for key in ("securityContext", "automountServiceAccountToken", "containers"):
        assert pod[key] == spec[key]


def with_component(folder: Path, document: Document) -> Document:
    """What an overlay with the component makes of one object."""
    (folder / "overlay").mkdir()
    (folder / "overlay/object.yaml").write_text(yaml.safe_dump(document))
    (folder / "component").symlink_to(DEPLOY / "kustomize/component")
    (folder / "overlay/kustomization.yaml").write_text("resources: [object.yaml]\ncomponents: [../component]\n")
    (made,) = kustomize(folder / "overlay")
    return made


@pytest.mark.needs("helm")
def test_pods_of_the_overlay_keep_the_restricted_standard() -> None:
    """Every container, ours and the example's, by its own context or the pod's."""
    pod = only(kustomize(EXAMPLE), "Deployment")["spec"]["template"]["spec"]
    for one in containers(pod):
        context = pod["securityContext"] | one["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert (context["allowPrivilegeEscalation"], context["capabilities"]) == (False, {"drop": ["ALL"]})


@pytest.mark.needs("helm")
@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
def test_kubernetes_takes_what_the_overlay_makes(tmp_path: Path, version: str) -> None:
    """kubernetes-validate has nothing to say, strictly."""
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(kustomize(EXAMPLE)))
    argv = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(tmp_path / "all.yaml")]
    done = subprocess.run(argv, env={"PYTHONPATH": str(TOOLS / "helm")}, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"passed for resource deployment/orders against version {version}" in done.stdout


def test_configuration_of_the_overlay_is_good() -> None:
    """The sidecar takes the example's configuration, and finds nothing to warn of."""
    file = EXAMPLE / "authz.yaml"
    argv = [sys.executable, "-m", "authz", "check-config", str(file)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("helm")
def test_envoy_gateway_s_sidecar_is_the_chart_s(sidecar: Document) -> None:
    """The container that an EnvoyProxy adds is the chart's, with its volumes and the socket's mount for Envoy."""
    documents = manifests(DEPLOY / "envoy-gateway/sidecar.yaml")
    made = only(documents, "EnvoyProxy")["spec"]["provider"]["kubernetes"]["envoyDeployment"]
    (added,) = made["initContainers"]
    assert added == sidecar
    assert {volume["name"] for volume in made["pod"]["volumes"]} == {one["name"] for one in sidecar["volumeMounts"]}
    assert made["container"]["volumeMounts"] == [{"name": "authz-socket", "mountPath": "/run/authz"}]
    (endpoint,) = only(documents, "Backend")["spec"]["endpoints"]
    assert endpoint["unix"]["path"] == "/run/authz/authz.sock"


def test_envoy_gateway_and_istio_fail_closed_and_refer_to_what_is_there() -> None:
    """Policies name the objects of the files beside them, and no failure opens anything."""
    gateway = manifests(DEPLOY / "envoy-gateway/sidecar.yaml") + manifests(DEPLOY / "envoy-gateway/policy.yaml")
    auth = only(gateway, "SecurityPolicy")["spec"]["extAuth"]
    assert auth["failOpen"] is False
    assert auth["grpc"]["backendRefs"][0]["name"] == only(gateway, "Backend")["metadata"]["name"]
    for policy in ("SecurityPolicy", "ClientTrafficPolicy"):
        (target,) = only(gateway, policy)["spec"]["targetRefs"]
        assert target["name"] == only(gateway, "Gateway")["metadata"]["name"]
    beside = manifests(DEPLOY / "istio/beside.yaml")
    (mesh,) = manifests(DEPLOY / "istio/mesh.yaml")
    (provider,) = mesh["meshConfig"]["extensionProviders"]
    assert provider["envoyExtAuthzGrpc"]["failOpen"] is False
    assert only(beside, "AuthorizationPolicy")["spec"]["provider"] == {"name": provider["name"]}
    entry = only(beside, "ServiceEntry")["spec"]
    assert entry["hosts"] == [provider["envoyExtAuthzGrpc"]["service"]]
    assert entry["ports"][0]["number"] == provider["envoyExtAuthzGrpc"]["port"]
    assert entry["endpoints"] == [{"address": "unix:///run/authz/authz.sock"}]


@pytest.fixture(scope="module")
def server(charts: Charts) -> list[Document]:
    """What the chart renders as a server with a receiver, behind a proxy in its pod."""
    values = charts.app / "ci/server-mesh-values.yaml"
    return charts.render(charts.app, "--values", values)


@pytest.mark.needs("helm")
def test_envoy_gateway_and_istio_lead_messages_to_the_receiver(server: list[Document]) -> None:
    """Both rewrite the paths that issuers post to, at the name and port of the chart's Service; all else gets 405."""
    service = only(server, "Service")
    (port,) = (one["port"] for one in service["spec"]["ports"] if one["name"] == "receiver")
    public = {f"{DEFAULT_PREFIX}{path}": path for path in PATHS}
    rules = only(manifests(DEPLOY / "envoy-gateway/receiver.yaml"), "HTTPRoute")["spec"]["rules"]
    routed = {}
    for rule in rules[:-1]:
        (match,), (rewrite,), (backend,) = rule["matches"], rule["filters"], rule["backendRefs"]
        assert (match["method"], match["path"]["type"]) == ("POST", "Exact")
        assert backend == {"name": service["metadata"]["name"], "port": port}
        routed[match["path"]["value"]] = rewrite["urlRewrite"]["path"]["replaceFullPath"]
    assert routed == public
    assert {match["path"]["value"] for match in rules[-1]["matches"]} == public.keys()
    routes = only(manifests(DEPLOY / "istio/receiver.yaml"), "VirtualService")["spec"]["http"]
    routed = {}
    for route in routes[:-1]:
        (match,), (target,) = route["match"], route["route"]
        assert match["method"] == {"exact": "POST"}
        assert target["destination"]["host"].partition(".")[0] == service["metadata"]["name"]
        assert target["destination"]["port"] == {"number": port}
        routed[match["uri"]["exact"]] = route["rewrite"]["uri"]
    assert routed == public
    assert {match["uri"]["exact"] for match in routes[-1]["match"]} == public.keys()
    assert routes[-1]["directResponse"] == {"status": 405}
    (opened,) = (
        one["port"]["number"]
        for one in only(manifests(DEPLOY / "istio/server.yaml"), "Sidecar")["spec"]["ingress"]
        if one["port"]["name"] == "receiver"
    )
    assert opened == port


@pytest.mark.needs("helm")
def test_istio_selects_the_chart_s_server(server: list[Document]) -> None:
    """What is about the server's pods has labels that they carry, and the receiver's port is only the gateway's."""
    labels = only(server, "Deployment")["spec"]["template"]["metadata"]["labels"]
    documents = manifests(DEPLOY / "istio/server.yaml") + manifests(DEPLOY / "istio/receiver.yaml")
    selectors = [one["spec"].get("workloadSelector", {}).get("labels") for one in documents]
    selectors += [one["spec"].get("selector", {}).get("matchLabels") for one in documents]
    chosen = [each for each in selectors if each]
    assert len(chosen) == 4
    assert all(each.items() <= labels.items() for each in chosen)
    policy = only(documents, "AuthorizationPolicy")["spec"]
    (rule,) = policy["rules"]
    assert (policy["action"], rule["to"]) == ("DENY", [{"operation": {"ports": ["9193"]}}])
    assert all("notPrincipals" in one["source"] for one in rule["from"])


def test_gateways_bound_what_issuers_send() -> None:
    """Istio by the filters that `authz envoy-config` prints, Envoy Gateway by a policy: body and sender."""
    receiver = EnvoyReceiver("127.0.0.1:9193", DEFAULT_PREFIX)
    envoy = dataclasses.replace(derive(load(EXAMPLE / "authz.yaml")), receiver=receiver)
    printed = {filter_["name"]: filter_["typed_config"] for filter_ in receiver_filters(envoy)}
    patches = only(manifests(DEPLOY / "istio/receiver.yaml"), "EnvoyFilter")["spec"]["configPatches"]
    assert {patch["match"]["listener"]["portNumber"] for patch in patches} == {9193}
    inserted = [patch["patch"]["value"] for patch in patches]
    assert {one["name"]: one["typed_config"] for one in inserted} == printed
    assert [one["name"] for one in reversed(inserted)] == list(printed)  # each is put in front of the one before
    policy = only(manifests(DEPLOY / "envoy-gateway/receiver.yaml"), "BackendTrafficPolicy")["spec"]
    assert policy["requestBuffer"]["limit"] == f"{MAX_MESSAGE_BYTES // 1024}Ki"
    assert policy["circuitBreaker"]["maxConnections"] == MAX_CONNECTIONS
    selectors = [one["sourceCIDR"] for rule in policy["rateLimit"]["local"]["rules"] for one in rule["clientSelectors"]]
    assert selectors == [{"type": "Distinct", "value": every} for every in ("0.0.0.0/0", "::/0")]


def test_no_decision_is_asked_for_where_issuers_post() -> None:
    """Envoy Gateway's policy for these routes names them, has no authorization service, and lets only senders in."""
    documents = manifests(DEPLOY / "envoy-gateway/receiver.yaml")
    security = only(documents, "SecurityPolicy")["spec"]
    assert "extAuth" not in security
    assert security["authorization"]["defaultAction"] == "Deny"
    route = only(documents, "HTTPRoute")
    for kind in ("SecurityPolicy", "BackendTrafficPolicy"):
        (target,) = only(documents, kind)["spec"]["targetRefs"]
        assert (target["kind"], target["name"]) == ("HTTPRoute", route["metadata"]["name"])
    (parent,) = route["spec"]["parentRefs"]
    assert parent["name"] == only(manifests(DEPLOY / "envoy-gateway/sidecar.yaml"), "Gateway")["metadata"]["name"]
    (extension,) = route["spec"]["rules"][-1]["filters"]
    assert extension["extensionRef"]["name"] == only(documents, "HTTPRouteFilter")["metadata"]["name"]


@pytest.mark.needs("helm")
def test_the_key_of_cert_manager_is_where_the_sidecar_reads_it(charts: Charts) -> None:
    """Its Secret is mounted by the example's values, which the sidecar takes; and a renewal brings another key."""
    folder = DEPLOY / "examples/signing-key"
    certificate = only(manifests(folder / "certificate.yaml"), "Certificate")["spec"]
    values = ("--values", charts.app / "ci/proxy-values.yaml", "--values", folder / "values.yaml")
    documents = charts.render(charts.app, *values)
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    (volume,) = (one for one in spec["volumes"] if one.get("secret", {}).get("secretName") == certificate["secretName"])
    (mount,) = (one for one in container(spec, "authz")["volumeMounts"] if one["name"] == volume["name"])
    config = parse(only(documents, "ConfigMap", name="orders-authz")["data"]["authz.yaml"], file="authz.yaml")
    assert config.signing.keys["main"].file == f"{mount['mountPath']}/tls.key"
    assert certificate["privateKey"]["rotationPolicy"] == "Always"
    issuer = only(manifests(folder / "certificate.yaml"), "Issuer")
    assert certificate["issuerRef"] == {"name": issuer["metadata"]["name"], "kind": "Issuer"}


def test_owners_of_routes_cannot_write_policies() -> None:
    """The role on the page of Envoy Gateway may change routes, and none of Envoy Gateway's own objects."""
    documents = manifests(DEPLOY / "envoy-gateway/rbac.yaml")
    role = only(documents, "ClusterRole")
    may = {verb for rule in role["rules"] if "gateway.envoyproxy.io" in rule["apiGroups"] for verb in rule["verbs"]}
    assert may == {"get", "list", "watch"}
    assert not any("*" in rule["apiGroups"] or "*" in rule["verbs"] for rule in role["rules"])
    assert only(documents, "RoleBinding")["roleRef"]["name"] == role["metadata"]["name"]
    page = (DEPLOY / "envoy-gateway/README.md").read_text(encoding="utf-8")
    assert "mergeType" in page
    assert "(rbac.yaml)" in page


def manifests(file: Path) -> list[Document]:
    """The documents of a file."""
    return [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document]


@pytest.mark.needs("helm")
def test_the_values_on_the_first_page_render(charts: Charts, tmp_path: Path) -> None:
    """What a reader pastes in the first ten minutes, and into kind, is taken by the chart."""
    found = blocks("yaml", page=DEPLOY / "README.md") + blocks("yaml", page=Path(__file__).with_name("README.md"))
    assert len(found) == 2
    for block in found:
        (tmp_path / "values.yaml").write_text(block.text)
        documents = charts.render(charts.app, "--values", tmp_path / "values.yaml")
        assert only(documents, "Deployment")["spec"]["replicas"] == 2
