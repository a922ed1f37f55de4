"""Our server's own path from a document to a decision: the reader of the feeds, the snapshot, `authorize`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.config.model import Config
from authz.core.authorize import authorize
from authz.core.decision import Allow
from authz.core.keys import KeySet
from authz.core.request import Request
from authz.feeds.build_feed import make_reader
from authz.feeds.failure import RefreshError
from tests.shapes.shape import ISSUER, NOW, Shape

_CONFIG = """version: 1
issuers:
  issuer:
    issuer: {issuer}
    audiences: [api]
    {source}
{more}
rules:
  - name: all
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the token passes, why not, and the keys that were read; None for a document that is refused.

    *looks_for_keys* tells that a refresh is asked for.
    """

    allowed: bool
    detail: str
    keys: KeySet | None
    looks_for_keys: bool = False


def configure(shape: Shape, *, x5c_mismatch: bool = False) -> Config:
    """Write the configuration of an operator who trusts the issuer of *shape*."""
    lines = [f"    algorithms: [{', '.join(shape.algorithms)}]"] if shape.algorithms is not None else []
    lines += ["    insecure: {x5c_mismatch: true}"] if x5c_mismatch else []
    source = "jwks_file: keys.json" if shape.local else f"jwks_uri: {ISSUER}/keys"
    return parse(_CONFIG.format(issuer=ISSUER, source=source, more="\n".join(lines)), file="authz.yaml")


def judge(shape: Shape, *, x5c_mismatch: bool = False) -> Verdict:
    """Decide about a request with the token of *shape*, by the keys of its document."""
    config = configure(shape, x5c_mismatch=x5c_mismatch)
    try:
        keys = make_reader(config.issuers["issuer"]).read(shape.document, f"{ISSUER}/keys")
    except RefreshError as error:
        return Verdict(allowed=False, detail=str(error), keys=None)
    snapshot = build_snapshot(config)
    issuers = {ISSUER: replace(snapshot.issuers[ISSUER], keys=keys)}
    request = Request(method="GET", host="api.test", path="/", headers={"authorization": f"Bearer {shape.token}"})
    decision = authorize(request, replace(snapshot, issuers=issuers), NOW)
    return Verdict(isinstance(decision, Allow), decision.detail, keys, bool(decision.trail.needs))
