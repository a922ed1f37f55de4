"""The hosts that a recipe speaks to: real HTTPS under their real names, behind a proxy that leads to this host."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import trustme
from prometheus_client import CollectorRegistry

from authz.config.issuer import Issuer as IssuerSection
from authz.config.load import load
from authz.core.keys import KeySet
from authz.demo.loopback import Request, Responder, Response, json_response
from authz.feeds.build_feed import make_feed
from authz.feeds.feed import Status
from authz.feeds.ports import FeedEnv
from authz.telemetry.keys import KeyMetrics
from authz.testing import Gateway
from tests.fakes.idp import FakeIdp, fail
from tests.fakes.raw import RawServer, forward
from tests.fakes.tls import server_context
from tests.recipes.recipe import Recipe

BEARER: Final = "token-of-the-sidecar"
_CA: Final = trustme.CA()


@dataclass(frozen=True, slots=True)
class Web:
    """Everything that a recipe's hosts serve. `hosts` are the servers by name; each remembers what it was asked."""

    hosts: Mapping[str, FakeIdp]
    fetch: Mapping[str, object]
    bearer_token_file: Path

    def feed(self, name: str, section: IssuerSection, **fetch: object) -> tuple[KeySet | None, Status[KeySet]]:
        """Refresh the keys of one issuer once, as the sidecar does; *fetch* changes that part of its section.

        Of the section only the way to the hosts is changed, never what is asked of them.
        """
        changes: dict[str, Any] = {**self.fetch, **fetch}
        if section.fetch.bearer_token_file is not None:
            changes["bearer_token_file"] = str(self.bearer_token_file)
        published: list[KeySet | None] = []
        known = make_feed(
            name,
            section.model_copy(update={"fetch": section.fetch.model_copy(update=changes)}),
            publish=published.append,
            env=FeedEnv(monotonic=time.monotonic, now=time.time, jitter=random.random, spawn=_at_once),
            metrics=KeyMetrics(CollectorRegistry()).for_issuer(name),
        )
        assert known is not None
        known.feed.step()
        return (published[-1] if published else None), known.feed.status()

    def gateway(self, recipe: Recipe) -> Gateway:
        """Judge by the recipe's own file, and by the keys that its provider publishes."""
        gateway = Gateway.from_config(load(recipe.file))
        issuers = dict(gateway.snapshot.issuers)
        for name, section in gateway.config.issuers.items():
            keys, state = self.feed(name, section)
            assert keys is not None, state.last_failure
            issuers |= {iss: replace(issuers[iss], keys=keys) for iss in section.accepted_issuers}
        return replace(gateway, snapshot=replace(gateway.snapshot, issuers=issuers))


@contextmanager
def serve(recipe: Recipe, folder: Path) -> Iterator[Web]:
    """Serve the documents of *recipe* at their URLs, and nothing else."""
    by_host: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for url, document in recipe.serves().items():
        by_host[urlsplit(url).netloc][urlsplit(url).path] = document
    ca_file, bearer_token_file = folder / "ca.pem", folder / "token"
    _CA.cert_pem.write_to_path(str(ca_file))
    bearer_token_file.write_text(BEARER)
    with ExitStack() as stack:
        hosts = {}
        for host, documents in by_host.items():
            hosts[host] = stack.enter_context(FakeIdp(tls=server_context(_CA, host.partition(":")[0])))
            hosts[host].answers = {"/.well-known/openid-configuration": fail(404)} | {
                path: _answer(document, recipe.accepts) for path, document in documents.items()
            }
        ports = {host if ":" in host else f"{host}:443": int(idp.url.rpartition(":")[2]) for host, idp in hosts.items()}
        proxy = stack.enter_context(RawServer(forward(ports=ports)))
        yield Web(hosts, {"proxy": f"http://127.0.0.1:{proxy.port}", "ca_file": str(ca_file)}, bearer_token_file)


def _at_once(refresh: Callable[[], None]) -> None:
    refresh()


def _answer(document: object, accepts: str) -> Responder:
    """Serve *document* to anyone who takes its media type; to others nothing (RFC 9110 section 15.5.7)."""

    def answer(request: Request) -> Response:
        taken = {name.lower(): value for name, value in request.headers}.get("accept", "*/*")
        if not {accepts, "*/*"}.intersection(map(str.strip, taken.split(","))):
            return Response(406)
        return json_response(document)

    return answer
