"""An API server of Kubernetes, as far as Helm's `lookup` asks one: its version, its kinds, and objects by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from authz.demo.loopback import LoopbackServer, Request, Response, json_response

Document = dict[str, Any]

# Kind -> its API and its name in URLs. Helm 4 wants to know each kind that a chart makes.
_KINDS: Final = {
    "ConfigMap": ("api/v1", "configmaps"),
    "Pod": ("api/v1", "pods"),
    "Service": ("api/v1", "services"),
    "ServiceAccount": ("api/v1", "serviceaccounts"),
    "Deployment": ("apis/apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("apis/autoscaling/v2", "horizontalpodautoscalers"),
    "Job": ("apis/batch/v1", "jobs"),
    "NetworkPolicy": ("apis/networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("apis/policy/v1", "poddisruptionbudgets"),
    "PodMonitor": ("apis/monitoring.coreos.com/v1", "podmonitors"),
    "PrometheusRule": ("apis/monitoring.coreos.com/v1", "prometheusrules"),
}


def api_server(objects: Sequence[Document] = ()) -> LoopbackServer:
    """Return a server that has these objects, each with its namespace; not yet started."""
    apis = sorted({api for api, _ in _KINDS.values()})
    groups = [_group(api) for api in apis if api.startswith("apis/")]
    served: dict[str, Document] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.2"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
    }
    for api in apis:
        version = api.partition("/")[2]
        served[f"/{api}"] = {"kind": "APIResourceList", "groupVersion": version, "resources": _resources(api)}
    for each in objects:
        api, plural = _KINDS[each["kind"]]
        meta = each["metadata"]
        served[f"/{api}/namespaces/{meta['namespace']}/{plural}/{meta['name']}"] = each

    def answer(request: Request) -> Response:
        found = served.get(request.path)
        if found is None:
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            return json_response(missing, status=404)
        return json_response(found)

    return LoopbackServer(answer)


def _group(api: str) -> Document:
    _, name, number = api.split("/")
    version = {"groupVersion": f"{name}/{number}", "version": number}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(api: str) -> list[Document]:
    return [
        {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get"]}
        for kind, (home, plural) in _KINDS.items()
        if home == api
    ]
