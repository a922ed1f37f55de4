"""The chart authz-injection, rendered; what its policies make of pods is for `make cluster`, with a real API server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Final

import pytest
import yaml
from cel_expr_python import cel

from tests.chart.helm import HELMS, Charts, Document, container, only
from tests.tools import TOOLS

pytestmark = pytest.mark.needs("helm")

POLICY: Final = "MutatingAdmissionPolicy"
TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


def rendered(charts: Charts, values: dict[str, Any] | None = None, *, helm: str = "helm4") -> list[Document]:
    """What the chart makes of these values over its least ones."""
    file = charts.folder / f"injection-{helm}.yaml"
    file.write_text(yaml.safe_dump(values or {}), encoding="utf-8")
    least = charts.injection / "ci/default-values.yaml"
    return charts.render(charts.injection, "--values", least, "--values", file, helm=helm)


def variable(documents: list[Document], name: str) -> object:
    """What the expression of a variable is, for a pod whose ConfigMap is named `orders`."""
    texts = {one["name"]: one["expression"] for one in only(documents, POLICY)["spec"]["variables"]}
    compiled = cel.NewEnv(variables={"variables": cel.Type.DYN}).compile(texts[name])
    return plain(compiled.eval(data={"variables": {"config": "orders"}}))


def plain(value: Any) -> Any:  # noqa: ANN401 - of any type
    """A value of CEL as one of Python."""
    value = value.value() if isinstance(value, cel.Value) else value
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("helm", HELMS)
def test_the_expression_is_the_library_s_container(charts: Charts, helm: str) -> None:
    """Field by field, in every type: with the sidecar's values, and texts that CEL or YAML could read otherwise."""
    odd = {
        "extraEnv": [{"name": "ODD", "value": "a \"b\" \\n {{ $x }} <&> 'c' é\n# d: yes"}],
        "resources": {"limits": {"memory": "1Gi"}},
        "extraVolumes": [{"name": "ca", "secret": {"secretName": "ca", "defaultMode": 0o440}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
        "signingSecrets": ["authz-signing"],
    }
    documents = rendered(charts, {"authz": odd}, helm=helm)
    file = charts.folder / "odd.yaml"
    file.write_text(yaml.safe_dump({"authz": odd}), encoding="utf-8")
    spec = only(charts.render(charts.consumer, "--values", file, helm=helm), "Deployment")["spec"]["template"]["spec"]
    ours = container(spec, "authz")
    ours["volumeMounts"].append({"name": "authz-config", "mountPath": TOKEN, "readOnly": True})
    assert variable(documents, "sidecar") == ours
    volumes = [one for one in spec["volumes"] if one["name"] != "envoy-config"]
    assert variable(documents, "volumes") == [{"name": "authz-config", "configMap": {"name": "orders"}}, *volumes[1:]]


@pytest.mark.parametrize("helm", HELMS)
def test_lint_finds_nothing(charts: Charts, helm: str) -> None:
    """`helm lint --strict` takes the least values."""
    least = charts.injection / "ci/default-values.yaml"
    charts.say(helm, "lint", "--strict", charts.injection, "--kube-version", "1.37", "--values", least)


def test_namespaces_opt_in_and_failures_refuse(charts: Charts) -> None:
    """Both policies fail closed, name each other's release, and look at pods that are created in such namespaces."""
    documents = rendered(charts)
    for kind in (POLICY, "ValidatingAdmissionPolicy"):
        policy, binding = (only(documents, of, name="orders") for of in (kind, f"{kind}Binding"))
        assert policy["spec"]["failurePolicy"] == "Fail"
        (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
        assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])
        assert binding["spec"]["policyName"] == policy["metadata"]["name"]
        selector = binding["spec"]["matchResources"]["namespaceSelector"]
        assert selector == {"matchLabels": {"authz-sidecar/injection": "enabled"}}
    binding = only(documents, "ValidatingAdmissionPolicyBinding", name="orders")
    assert binding["spec"]["validationActions"] == ["Deny"]
    warning = only(documents, "ValidatingAdmissionPolicyBinding", name="orders-elsewhere")
    assert warning["spec"]["validationActions"] == ["Warn"]


def test_openshift_s_pods_get_no_group(charts: Charts) -> None:
    """Without a group of the socket the pod's security context is not touched."""
    mutations = [
        only(rendered(charts, values), POLICY)["spec"]["mutations"][0]["jsonPatch"]["expression"]
        for values in (None, {"authz": {"socket": {"group": None}}})
    ]
    assert ["fsGroup" in each for each in mutations] == [True, False]


@pytest.mark.parametrize("version", ["1.36", "1.37"])
def test_kubernetes_takes_the_policies(charts: Charts, version: str) -> None:
    """kubernetes-validate knows every object, strictly."""
    file = charts.folder / f"injection-{version}.out"
    file.write_text(yaml.safe_dump_all(rendered(charts)), encoding="utf-8")
    argv = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(file)]
    done = subprocess.run(argv, env={"PYTHONPATH": str(TOOLS / "helm")}, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("passed") == 6


WRONG: Final[dict[str, dict[str, Any]]] = {
    "authz.config and authz.configText go with": {"authz": {"configText": "version: 1\n"}},
    "authz.nativeSidecar must be true": {"authz": {"nativeSidecar": False}},
    "belong to a namespace": {"authz": {"podMonitor": {"enabled": True}}},
    "they, or their service accounts, name their own": {"authz": {"imagePullSecrets": [{"name": "a"}]}},
    "authz.image.repository is not set": {"authz": {"image": {"repository": ""}}},
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused(charts: Charts, message: str) -> None:
    """Values of the library that a policy cannot serve, each with what to do."""
    with pytest.raises(AssertionError, match=message):
        rendered(charts, WRONG[message])


def test_older_clusters_are_refused(charts: Charts) -> None:
    """MutatingAdmissionPolicy is stable since Kubernetes 1.36."""
    least = charts.injection / "ci/default-values.yaml"
    done = charts.run("helm4", "template", "x", charts.injection, "--values", least, "--kube-version", "1.35")
    assert "kubeVersion" in done.stderr
