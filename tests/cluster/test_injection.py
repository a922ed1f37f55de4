"""The policy of the chart authz-injection in a real API server: what becomes of a pod that asks for the sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

import pytest
import yaml

from tests.chart.helm import Charts, Document, container, containers, only
from tests.cluster.apiserver import Cluster, Refused
from tests.fakes.waiting import wait_until

pytestmark = pytest.mark.needs("cluster", "helm")

CONFINED: Final = {"runAsUser": 65532, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, charts: Charts) -> Iterator[str]:
    """A namespace that opts in, in a cluster with the policy."""
    values = charts.injection / "ci/default-values.yaml"
    chart = charts.injection
    cluster.helm("helm4", "install", "authz-injection", chart, "--namespace", "default", "--values", values)
    made = cluster.make_namespace("injected", **{"authz-sidecar/injection": "enabled"})

    def in_force() -> bool:  # the server looks for new policies now and then
        flags = ("--dry-run=server", "--output", "name", "--namespace", made, "--filename", "-")
        try:
            cluster.kubectl("create", *flags, stdin=yaml.safe_dump(pod("r", one("app"))))
        except Refused as refused:
            return "no container is named envoy" in str(refused)
        return False

    wait_until(in_force)
    yield made
    cluster.helm("helm4", "uninstall", "authz-injection", "--namespace", "default")


def one(name: str, **more: object) -> Document:
    """A container."""
    return {"name": name, "image": f"{name}:1", "securityContext": CONFINED, **more}


def pod(name: str, *others: Document, annotations: dict[str, str] | None = None, **spec: object) -> Document:
    """A pod with Envoy and an application, unless changed, that asks for the sidecar."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {"authz-sidecar/inject": "true"} | (annotations or {})},
        "spec": {
            "containers": [*others] or [one("app"), one("envoy")],
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            **spec,
        },
    }


SOCKET: Final = {"name": "authz-socket", "mountPath": "/run/authz"}


def inits(made: Document) -> list[str]:
    """Names of the init containers in their order."""
    return [each["name"] for each in made["spec"].get("initContainers", [])]


def test_pods_get_the_container_of_the_chart(cluster: Cluster, charts: Charts, namespace: str) -> None:
    """The container, the volumes and the group are those of the library, in a pod that had neither."""
    made = cluster.create(pod("plain"), namespace=namespace)["spec"]
    spec = only(charts.case(charts.consumer, None), "Deployment")["spec"]["template"]["spec"]
    assert inits({"spec": made}) == ["authz"]
    ours = container(spec, "authz")
    assert covers(container(made, "authz"), {key: ours[key] for key in ours if key != "volumeMounts"})
    *mounts, last = container(made, "authz")["volumeMounts"]
    assert mounts == ours["volumeMounts"]
    # Where a token of the service account would be, as it is in the others.
    assert last == {"name": "authz-config", "mountPath": TOKEN, "readOnly": True}
    assert TOKEN in {mount["mountPath"] for mount in container(made, "app")["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in made["volumes"]}
    assert covers(volumes["authz-socket"], {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
    assert volumes["authz-config"]["configMap"]["name"] == "authz"
    assert SOCKET in container(made, "envoy")["volumeMounts"]
    assert SOCKET not in container(made, "app").get("volumeMounts", [])
    assert made["securityContext"]["fsGroup"] == 65532
    assert made["securityContext"]["runAsNonRoot"] is True


def covers(found: object, asked: object) -> bool:
    """Whether everything asked for is there: the server adds its defaults."""
    if isinstance(asked, dict):
        return isinstance(found, dict) and all(covers(found.get(key), value) for key, value in asked.items())
    if isinstance(asked, list):
        return isinstance(found, list) and len(found) == len(asked) and all(map(covers, found, asked))
    return found == asked


def test_it_starts_first_wherever_envoy_stands(cluster: Cluster, namespace: str) -> None:
    """Before every other init container, also where Envoy is one; the mount is Envoy's, by its own name."""
    native = one("proxy", restartPolicy="Always", volumeMounts=[{"name": "files", "mountPath": "/files"}])
    asked = pod(
        "native",
        one("app"),
        initContainers=[one("migrate"), native],
        volumes=[{"name": "files", "emptyDir": {}}],
        annotations={"authz-sidecar/envoy-container": "proxy", "authz-sidecar/config": "orders"},
    )
    made = cluster.create(asked, namespace=namespace)
    assert inits(made) == ["authz", "migrate", "proxy"]
    mounts = container(made["spec"], "proxy")["volumeMounts"]
    assert {"name": "files", "mountPath": "/files"} in mounts
    assert SOCKET in mounts
    assert SOCKET not in container(made["spec"], "migrate").get("volumeMounts", [])
    config = next(volume for volume in made["spec"]["volumes"] if volume["name"] == "authz-config")
    assert config["configMap"]["name"] == "orders"
    assert made["metadata"]["labels"]["authz-sidecar/release"] == "orders"


def test_what_the_pod_says_is_left(cluster: Cluster, namespace: str) -> None:
    """Its own group, its labels and its volumes stay: the socket's folder gets the pod's group."""
    asked = pod("own")
    asked["metadata"]["labels"] = {"app": "own", "authz-sidecar/release": "mine"}
    asked["spec"]["securityContext"] |= {"fsGroup": 2000, "supplementalGroups": [7]}
    asked["spec"]["volumes"] = [{"name": "files", "emptyDir": {}}]
    made = cluster.create(asked, namespace=namespace)
    assert made["metadata"]["labels"] == {"app": "own", "authz-sidecar/release": "mine"}
    assert made["spec"]["securityContext"]["fsGroup"] == 2000
    assert "fsGroupChangePolicy" not in made["spec"]["securityContext"]
    assert "files" in {volume["name"] for volume in made["spec"]["volumes"]}


def test_a_pod_without_a_security_context_gets_the_group(cluster: Cluster, namespace: str) -> None:
    """What is missing above the group is made: the containers keep the standard by themselves."""
    asked = pod("bare")
    del asked["spec"]["securityContext"]
    for each in asked["spec"]["containers"]:
        each["securityContext"] = {**CONFINED, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    made = cluster.create(asked, namespace=namespace)
    assert made["spec"]["securityContext"]["fsGroup"] == 65532


REFUSED: Final = {
    "no container is named envoy": pod("r", one("app"), one("proxy")),
    "there are migrate, app, proxy": pod("r", one("app"), one("proxy"), initContainers=[one("migrate")]),
    "a container is named authz already": pod("r", one("envoy"), one("authz")),
    "a volume is named authz-socket already": pod("r", volumes=[{"name": "authz-socket", "emptyDir": {}}]),
    "envoy mounts another volume at /run/authz": pod(
        "r",
        one("envoy", volumeMounts=[{"name": "files", "mountPath": "/run/authz"}]),
        volumes=[{"name": "files", "emptyDir": {}}],
    ),
    "port 9192, the sidecar's admin port, is another": pod("r", one("envoy", ports=[{"containerPort": 9192}])),
    'is "yes": it must be "true" or "false"': pod("r", annotations={"authz-sidecar/inject": "yes"}),
    "the init container authz must be a native sidecar": pod("r", initContainers=[one("authz")]),
    "authz must stand before envoy": pod(
        "r", one("app"), initContainers=[one("envoy", restartPolicy="Always"), one("authz", restartPolicy="Always")]
    ),
    "envoy does not mount the volume authz-socket": pod("r", initContainers=[one("authz", restartPolicy="Always")]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_served_is_refused(cluster: Cluster, namespace: str, message: str) -> None:
    """No pod that asked starts without the sidecar, and the message says what to change."""
    with pytest.raises(Refused) as refused:
        cluster.create(deepcopy(REFUSED[message]), namespace=namespace)
    assert message in str(refused.value)
    assert "ValidatingAdmissionPolicy" in str(refused.value)


@pytest.mark.parametrize(
    ("spec", "message"), [({"hostNetwork": True}, "hostNetwork"), ({"os": {"name": "windows"}}, "os windows")]
)
def test_what_no_restricted_namespace_takes_is_refused(
    cluster: Cluster, namespace: str, spec: dict[str, Any], message: str
) -> None:
    """The same for pods that another standard would let run."""
    labels = {"authz-sidecar/injection": "enabled", "pod-security.kubernetes.io/enforce": "privileged"}
    lax = cluster.make_namespace("lax", **labels, **{"pod-security.kubernetes.io/warn": "privileged"})
    asked = pod("r", {"name": "envoy", "image": "envoy:1"}, securityContext=None, **spec)
    with pytest.raises(Refused, match=f"cannot be injected: {message}"):
        cluster.create(asked, namespace=lax)


def test_pods_that_do_not_ask_are_left_alone(cluster: Cluster, namespace: str) -> None:
    """Without the annotation, and with `false`."""
    plain = pod("silent")
    del plain["metadata"]["annotations"]
    refusing = pod("refusing", annotations={"authz-sidecar/inject": "false"})
    for asked in (plain, refusing):
        made = cluster.create(asked, namespace=namespace)
        assert [each["name"] for each in containers(made["spec"])] == ["app", "envoy"]


def test_pods_of_other_namespaces_are_left_alone_with_a_warning(cluster: Cluster, namespace: str) -> None:
    """In a namespace that has not opted in the pod runs as it is, and its author learns which label is missing."""
    elsewhere = cluster.make_namespace("not-opted-in")
    with pytest.raises(Refused, match=r"^Warning: .*label the namespace authz-sidecar/injection=enabled"):
        cluster.create(pod("asking"), namespace=elsewhere)
    assert inits(cluster.get("pod", "asking", elsewhere)) == []
