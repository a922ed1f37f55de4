"""A signing key in a Secret that cert-manager renews, as the kubelet mounts it: published before it signs."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trustme
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.core import base64url
from authz.core.keys import KeySet
from authz.core.token import parse_token
from authz.demo.client import send
from tests.chart.harness import write
from tests.fakes.idp import FakeIdp
from tests.fakes.waiting import wait_until
from tests.fixtures import ask
from tests.integration.sidecars import Running, issuer, running
from tests.tools import ROOT
from tests.unit.envoy.asking import read, write_check
from tests.unit.envoy.serving import SECONDS, method, short_folder

_VALUES: Final = ROOT / "deploy/examples/signing-key/values.yaml"
_AHEAD: Final = 2.0  # seconds
_SHORT: Final = {"rotation": {"ahead": "2s"}, "publish": {"max_age": "1s"}}


def secret(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """A Secret as cert-manager fills it: ECDSA, PKCS #8."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    certificate = trustme.CA().issue_cert("authz-signing").cert_chain_pems[0].bytes().decode()
    return {"data": {"tls.key": pem, "tls.crt": certificate, "ca.crt": certificate}}


def settings(mount: Path) -> str:
    """What the example's values configure, with the file in *mount*, and durations that a test can wait for."""
    config = yaml.safe_load(_VALUES.read_text(encoding="utf-8"))["authz"]["config"]
    main = config["signing"]["keys"]["main"]
    main["file"] = str(mount / Path(main["file"]).name)
    config["identity"]["token"]["lifetime"] = "10s"
    return yaml.safe_dump({**config, "signing": {**config["signing"], **_SHORT}})


def upstream_token(started: Running, token: str) -> str:
    """Make a check that is allowed; return the token that the upstream gets."""
    answer = read(method(started.channel)(write_check(ask(token, path="/items/1")), timeout=SECONDS))
    found = {each.header.key: each.header.value for each in answer.ok_response.headers}
    return found["authorization"].removeprefix("Bearer ")


def published(started: Running) -> tuple[KeySet, list[str]]:
    """Fetch the key set as an upstream does; and the names in it."""
    document = send(f"{started.sidecar.admin_url}/.well-known/jwks.json").body
    return KeySet.from_json(document), [each["kid"] for each in json.loads(document)["keys"]]


def phases(started: Running) -> dict[str, Mapping[str, Any]]:
    """Fetch what operators see of each key."""
    return {each["kid"]: each for each in send(f"{started.sidecar.admin_url}/signing").json()["keys"]}


def test_a_renewed_key_is_published_before_it_signs(tmp_path: Path) -> None:
    """Without a restart; each token is verified by the set that a reader had before it, and by the one after it.

    The old key signs from memory meanwhile, although its file is gone, and is withdrawn after its last token has ended.
    """
    mount = tmp_path / "authz-signing"
    write(secret(ec.generate_private_key(ec.SECP256R1())), mount)
    with (
        short_folder() as folder,
        FakeIdp() as idp,
        running(folder, issuer("a", idp), more=settings(mount)) as started,
    ):
        started.await_ready()
        _, (old,) = published(started)
        signers = []

        def exchange() -> str:
            before, _ = published(started)
            text = upstream_token(started, idp.mint())
            after, _ = published(started)
            token = parse_token(text)
            before.verify(token, frozenset({"ES256"}))
            if time.time() < json.loads(base64url.decode(text.split(".")[1].encode()))["exp"]:
                after.verify(token, frozenset({"ES256"}))
            signers.append(str(token.kid))
            return signers[-1]

        assert exchange() == old
        write(secret(ec.generate_private_key(ec.SECP256R1())), mount)
        wait_until(lambda: exchange() != old)
        new = signers[-1]
        times = phases(started)[new]
        assert times["started"] - times["published"] >= _AHEAD
        wait_until(lambda: exchange() == new and published(started)[1] == [new])
        changed = signers.index(new)
        assert signers == [old] * changed + [new] * (len(signers) - changed)
