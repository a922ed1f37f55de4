"""Proves external decisions against a real OPA and a real OpenFGA, and the facts that are written of them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest

from authz.config.problems import ConfigError
from authz.demo.client import send
from authz.demo.loopback import Response
from tests.fakes.idp import FakeIdp, fail
from tests.fakes.waiting import wait_until
from tests.integration.station import Station
from tests.peers.pdps import bundle, make_store, opa, openfga

pytestmark = pytest.mark.needs("peers/opa", "peers/openfga")

BUNDLE = "/bundle.tar.gz"
EVALUATION = "/access/v1/evaluation"
MAIL = "alice@example.com"
SPIFFE = "spiffe://example.com/ns/web"


@pytest.fixture(scope="module")
def opa_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """OPA with a policy."""
    with opa(tmp_path_factory.mktemp("opa")) as url:
        yield url


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store of OpenFGA: alice reads a document, under her name and the two forms of her mail address."""
    as_base64 = {text: urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in (MAIL, "d1")}
    readers = {"alice": "d1", quote(MAIL, safe=""): "d1", as_base64[MAIL]: as_base64["d1"]}
    tuples = [{"user": f"user:{name}", "relation": "read", "object": f"doc:{doc}"} for name, doc in readers.items()]
    with openfga(tmp_path_factory.mktemp("openfga")) as url:
        yield make_store(url, *tuples)


def station(idp: FakeIdp, **pdps: str) -> Station:
    """A sidecar that asks each of *pdps*, which are in YAML, about what is below its name."""
    listed = "".join(f"  {name}: {{{pdp}, max_wait: 10s, timeout: 10s}}\n" for name, pdp in pdps.items())
    rules = "".join(
        f"""  - name: {name}
    match: {{paths: ["/{name}/{{id}}/{{action}}"]}}
    require:
      pdp: {{name: {name}, action: {{name: "${{params.action}}"}}, resource: {{type: doc, id: "${{params.id}}"}}}}
"""
        for name in pdps
    )
    issuer = f"a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}"
    return Station(whole=f"version: 1\nissuers:\n  {issuer}\npdps:\n{listed}rules:\n{rules}").settle()


def ask(sidecar: Station, idp: FakeIdp, path: str, *, sub: str = "alice") -> str:
    """Ask for a path, and return the reason."""
    return str(sidecar.ask(idp.mint(sub=sub), f"GET api.test{path}"))


def test_opa_decides_and_only_a_boolean_is_a_decision(opa_url: str) -> None:
    """What OPA leaves undefined, fails over, or says of a question without `input` is neither allowed nor denied."""
    data = f"{opa_url}/v1/data/app"
    pdps = {name: f"kind: opa, url: '{data}/{name}'" for name in ("allow", "reasoned", "undefined", "conflict", "none")}
    pdps |= {"package": f"kind: opa, url: '{data}'", "bare": f"kind: opa, url: '{opa_url}/v0/data/app/allow'"}
    pdps |= {"unwrapped": f"kind: authzen, url: '{data}/allow'", "slash": f"kind: opa, url: '{data}/allow/'"}
    with FakeIdp() as idp, station(idp, **pdps) as sidecar:
        assert ask(sidecar, idp, "/allow/d1/GET") == "authenticated"
        assert ask(sidecar, idp, "/allow/d1/POST") == "pdp_denied"
        assert ask(sidecar, idp, "/reasoned/d1/GET") == "pdp_denied"
        for name in ("undefined", "none", "package", "bare", "unwrapped", "conflict", "slash"):
            assert ask(sidecar, idp, f"/{name}/d1/GET") == "pdp_unavailable", name
        assert ask(sidecar, idp, "/allow/d1/GET") == "authenticated"


def test_opa_without_its_bundle_denies_nothing(tmp_path: Path) -> None:
    """It is healthy and answers `{}`; when the bundle is there, the next request is decided by it."""
    with FakeIdp() as idp:
        idp.answers[BUNDLE] = fail(404)
        settings = (
            f"services.here.url={idp.url}",
            "bundles.app.service=here",
            f"bundles.app.resource={BUNDLE}",
            "bundles.app.polling.min_delay_seconds=1",
            "bundles.app.polling.max_delay_seconds=1",
        )
        with opa(tmp_path, *(f"--set={setting}" for setting in settings)) as url:
            wait_until(lambda: idp.count(BUNDLE) > 0)
            with station(idp, allow=f"kind: opa, url: '{url}/v1/data/app/allow'") as sidecar:
                assert ask(sidecar, idp, "/allow/d1/GET") == "pdp_unavailable"
                idp.answers[BUNDLE] = lambda _: Response(200, (("content-type", "application/gzip"),), bundle())
                wait_until(lambda: send(f"{url}/health?bundles").status == 200)
                assert ask(sidecar, idp, "/allow/d1/GET") == "authenticated"
                assert ask(sidecar, idp, "/allow/d1/POST") == "pdp_denied"


def test_opa_that_is_gone_denies_nothing(tmp_path: Path) -> None:
    """Its process has ended: 503."""
    with FakeIdp() as idp:
        with opa(tmp_path) as url:
            sidecar = station(idp, allow=f"kind: opa, url: '{url}/v1/data/app/allow'")
        with sidecar:
            assert ask(sidecar, idp, "/allow/d1/GET") == "pdp_unavailable"


def test_openfga_decides_and_refuses_ids_of_some_characters(store: str) -> None:
    """A mail address or a SPIFFE id is no id there; encoded, it is one."""
    url = f"url: '{store}{EVALUATION}'"
    pdps = {"plain": url, "percent": f"{url}, id_encoding: percent", "base64url": f"{url}, id_encoding: base64url"}
    with FakeIdp() as idp, station(idp, **pdps) as sidecar:
        assert ask(sidecar, idp, "/plain/d1/read", sub="alice") == "authenticated"
        assert ask(sidecar, idp, "/plain/d1/write", sub="alice") == "pdp_denied"
        assert ask(sidecar, idp, "/plain/d2/read", sub="alice") == "pdp_denied"
        for subject in (MAIL, SPIFFE, "auth0|5#x", "two words"):
            assert ask(sidecar, idp, "/plain/d1/read", sub=subject) == "pdp_denied"
        assert sidecar.asked("plain", "refused", "pdp") == 4
        assert ask(sidecar, idp, "/plain/d1/fly", sub="alice") == "pdp_denied"
        for name in ("percent", "base64url"):
            assert ask(sidecar, idp, f"/{name}/d1/read", sub=MAIL) == "authenticated"
            assert ask(sidecar, idp, f"/{name}/d1/read", sub=SPIFFE) == "pdp_denied"
            assert sidecar.asked(name, "refused", "pdp") == 0


def test_a_refusal_before_any_decision_may_be_our_fault(store: str) -> None:
    """Until OpenFGA has decided once, a 400 is a failure of the configuration, and denies nothing."""
    with FakeIdp() as idp, station(idp, plain=f"url: '{store}{EVALUATION}'") as sidecar:
        assert ask(sidecar, idp, "/plain/d1/read", sub=MAIL) == "pdp_unavailable"
        assert ask(sidecar, idp, "/plain/d1/read", sub="alice") == "authenticated"
        assert ask(sidecar, idp, "/plain/d1/read", sub=MAIL) == "pdp_denied"


def test_openfga_hides_failures_in_a_batch(store: str) -> None:
    """In a batch an unknown relation looks like a denial: a configuration that asks there is refused."""
    question: Mapping[str, object] = {
        "subject": {"type": "user", "id": "alice"},
        "resource": {"type": "doc", "id": "d1"},
        "evaluations": [{"action": {"name": "read"}}, {"action": {"name": "fly"}}],
    }
    headers = [("Content-Type", "application/json")]
    answer = send(f"{store}{EVALUATION}s", method="POST", headers=headers, body=json.dumps(question).encode())
    allowed, failed = answer.json()["evaluations"]
    assert (allowed["decision"], failed["decision"], "error" in failed["context"]) == (True, False, True)
    with FakeIdp() as idp, pytest.raises(ConfigError, match="errors there as denials"):
        station(idp, batch=f"url: '{store}{EVALUATION}s'")


def test_another_store_is_no_decision(store: str) -> None:
    """A store that is not there, and no store: nothing is denied by policy."""
    elsewhere = store.rpartition("/")[0]
    pdps = {
        "gone": f"url: '{elsewhere}/01ARZ3NDEKTSV4RRFFQ69G5FAV{EVALUATION}'",
        "none": f"url: '{elsewhere.removesuffix('/stores')}{EVALUATION}'",
    }
    with FakeIdp() as idp, station(idp, **pdps) as sidecar:
        for name in pdps:
            assert ask(sidecar, idp, f"/{name}/d1/read", sub="alice") == "pdp_unavailable"
