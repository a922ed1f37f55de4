"""Envoys to measure: what the project's own bootstrap says, with answers of Envoy's own in place of an upstream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from authz.demo.bootstrap import LOOPBACK, Proxy, bootstrap
from authz.demo.client import send
from authz.demo.envoy import Envoy
from tests.bench.setups import Kind
from tests.bench.tokens import AUDIENCE, ISSUER

_CACHED_TOKENS: Final = 1_000
_NO_UPSTREAM: Final = f"{LOOPBACK}:9"
_TYPE: Final = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_STATS: Final = "/stats?format=json&filter=^http\\.front\\.downstream_rq_(2xx|completed)$"


def make_envoy(kind: Kind, folder: Path, *, sidecars: tuple[str, ...] = (), jwks: str = "") -> Envoy:
    """Prepare an Envoy whose every request is evaluated by *kind* and answered 200 by Envoy itself."""
    proxy = Proxy(upstream=_NO_UPSTREAM, sidecars=sidecars or (_NO_UPSTREAM,))
    envoy = Envoy(proxy, folder)
    (folder / "envoy.json").write_text(json.dumps(write(proxy, kind, jwks=jwks)), encoding="utf-8")
    return envoy


def write(proxy: Proxy, kind: Kind, *, jwks: str) -> dict[str, object]:
    """Write the bootstrap."""
    whole: Any = bootstrap(proxy)
    chain = whole["static_resources"]["listeners"][0]["filter_chains"][0]
    manager = chain["filters"][0]["typed_config"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        del route["route"]
        route["direct_response"] = {"status": 200}
    deciders: dict[Kind, list[dict[str, object]]] = {
        Kind.NOBODY: [],
        Kind.ENVOY: [_jwt_authn(jwks, cached=0)],
        Kind.ENVOY_CACHED: [_jwt_authn(jwks, cached=_CACHED_TOKENS)],
    }
    ext_authz, router = manager["http_filters"]
    manager["http_filters"] = [*deciders.get(kind, [ext_authz]), router]
    return dict(whole)


def _jwt_authn(jwks: str, *, cached: int) -> dict[str, object]:
    provider: dict[str, object] = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": jwks},
        "forward": True,
    }
    if cached:
        provider["jwt_cache_config"] = {"jwt_cache_size": cached}
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": _TYPE,
            "providers": {"idp": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}}],
        },
    }


def count_answers(admin_url: str) -> tuple[int, int]:
    """Ask Envoy how many requests it has answered so far, and how many of them 2xx."""
    stats = {one["name"].rpartition("_")[2]: int(one["value"]) for one in send(admin_url + _STATS).json()["stats"]}
    return stats.get("completed", 0), stats.get("2xx", 0)
