"""Envoy's own filter over every shape: one provider, one key set URL and one path for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from authz.demo.bootstrap import LOOPBACK, Proxy, bootstrap
from authz.demo.client import send
from authz.demo.envoy import Envoy
from authz.demo.loopback import LoopbackServer, Request, Response
from tests.shapes.shape import ISSUER, Shape

_TYPE: Final = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"


def allowed_by_envoy(shapes: Mapping[str, Shape], folder: Path) -> frozenset[str]:
    """Return the names of the *shapes* whose token Envoy's jwt_authn takes, with their document as its `remote_jwks`.

    Raises PartFailed if Envoy does not start.
    """
    documents = [shape.document for shape in shapes.values()]

    def answer(request: Request) -> Response:
        return Response(200, (("Content-Type", "application/json"),), documents[int(request.path[1:])])

    with LoopbackServer(answer) as issuer:
        file = folder / "envoy.json"
        file.write_text(json.dumps(_bootstrap(len(documents), f"127.0.0.1:{issuer.port}")), encoding="utf-8")
        envoy = Envoy(file, folder)
        envoy.start()
        try:
            statuses = {
                name: send(f"{envoy.url}/{at}", headers=[("Authorization", f"Bearer {shape.token}")]).status
                for at, (name, shape) in enumerate(shapes.items())
            }
        finally:
            envoy.stop()
    assert set(statuses.values()) == {200, 401}, statuses
    return frozenset(name for name, status in statuses.items() if status == 200)


def _bootstrap(count: int, issuer: str) -> dict[str, object]:
    """Write a bootstrap whose upstream is the issuer of the keys; Envoy itself answers what the filter lets through."""
    whole: Any = bootstrap(Proxy(upstream=issuer, sidecars=(f"{LOOPBACK}:9",)))
    manager = whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        del route["route"]
        route["direct_response"] = {"status": 200}
    _, router = manager["http_filters"]
    manager["http_filters"] = [_filter(count), router]
    return dict(whole)


def _filter(count: int) -> dict[str, object]:
    numbers = [str(at) for at in range(count)]
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": _TYPE,
            "providers": {
                number: {
                    "issuer": ISSUER,
                    "audiences": ["api"],
                    "remote_jwks": {"http_uri": {"uri": f"{ISSUER}/{number}", "cluster": "upstream", "timeout": "60s"}},
                }
                for number in numbers
            },
            "rules": [{"match": {"path": f"/{number}"}, "requires": {"provider_name": number}} for number in numbers],
        },
    }
