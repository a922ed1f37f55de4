"""Configurations of the sidecar that ask different things of Envoy."""

from __future__ import annotations

from typing import Final

from authz.config.load import parse
from authz.config.model import Config

BASE: Final = """version: 1
issuers:
  a: {issuer: "https://a.test", audiences: [api]}
rules:
  - {name: all, match: {paths: ["/**"]}}
identity:
  headers: {x-auth-subject: sub, x-auth.v1+org: org}
"""
COOKIE: Final = "token: {sources: [{header: authorization}, {cookie: session}], forward: false}\n"
RESOURCE: Final = 'resource: {identifier: "https://api.test/v1"}\n'
TLS: Final = """server:
  listen: "{listen}"
  tls: {{cert_file: /tls/tls.crt, key_file: /tls/tls.key{client_ca}}}
"""
MUTUAL: Final = TLS.format(listen="0.0.0.0:9191", client_ca=", client_ca_file: /tls/ca.crt")
ONE_SIDED: Final = TLS.format(listen="[::1]:9191", client_ca="")

SAMPLES: Final = {
    "unix": BASE,
    "no identity": BASE.partition("identity:")[0],
    "cookies": BASE + COOKIE,
    "resource": BASE + RESOURCE,
    "loopback": BASE + 'server: {listen: "127.0.0.1:9191"}\n',
    "mutual TLS": BASE + MUTUAL,
    "TLS": BASE + ONE_SIDED,
    "busy": BASE + "server: {max_concurrent: 5000}\n",
    "long tokens": BASE + "token: {max_bytes: 100KiB}\n",
    "asking": BASE.replace(
        "rules:\n", "pdps: {p: {url: 'https://pdp.test/access/v1/evaluation', max_wait: 3s}}\nrules:\n", 1
    ),
    "patient": BASE.replace("audiences: [api]", "audiences: [api], fetch: {max_wait: 2s}"),
    "odd paths": BASE.replace('["/**"]}', '["/**"]}, accept: [encoded_slash, double_slash]'),
    "proofs": BASE.replace("audiences: [api]", "audiences: [api], dpop: allowed"),
    "throttled": BASE + "throttle: {failures: 20}\n",
    "throttled behind a proxy": BASE + 'throttle: {failures: 20}\nclients: {trusted_proxies: ["10.0.0.0/8"]}\n',
    "receiving": BASE + 'receivers: {listen: "127.0.0.1:9193"}\n',
    "receiving elsewhere": BASE + MUTUAL + 'receivers: {listen: "[::]:9193"}\n',
    "fails open": BASE + "responses: {unavailable: error}\n",
}


def sample(name: str, *, workers: int = 1) -> Config:
    """Load one of them, with so many workers."""
    config = parse(SAMPLES[name], file=name)
    return config.model_copy(update={"server": config.server.model_copy(update={"workers": workers})})
