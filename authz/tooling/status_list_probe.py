"""Fetch each status list that is configured by its whole URI with the code of the feeds; verify it as a check does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from authz.config.build import build_snapshot
from authz.config.model import Config
from authz.core.authenticate import verify_status_list
from authz.core.decision import AuditTrail
from authz.core.issuer import Issuer
from authz.core.keys import KeySet
from authz.core.needs import NO_FACTS
from authz.core.reasons import Rejected
from authz.core.snapshot import Snapshot
from authz.core.status_list import StatusList, StatusReference, StatusRules, check_entry, status_list_need
from authz.facts.source import SourceError
from authz.feeds.status_lists import StatusListSource, make_status_list_source
from authz.telemetry.redaction import printable

_ANY_STATUS: Final = frozenset(range(256))


@dataclass(frozen=True, slots=True)
class ProbedStatusList:
    """The list at *uri* of the issuer configured as *issuer*: its *entries*, or an *error*; or it was not tried."""

    issuer: str
    uri: str
    entries: int | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether tokens can be checked by it, as far as that was tried."""
        return self.error is None

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"status list of {self.issuer}: {printable(self.uri)}"
        if self.error is not None:
            yield f"  failed        {printable(self.error)}"
        elif self.entries is None:
            yield "  not tried     tokens name the rest of the URI"
        else:
            yield f"  verified      room for {self.entries} tokens"

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {
            "issuer": self.issuer,
            "uri": self.uri,
            "ok": self.ok,
            "tried": self.error is not None or self.entries is not None,
            "entries": self.entries,
            "detail": self.error or "",
        }


def probe_status_lists(config: Config, keys: Mapping[str, KeySet | None]) -> list[ProbedStatusList]:
    """Fetch every list, one after the other; *keys* are those of issuers by their configured names."""
    snapshot, probed = build_snapshot(config), []
    issuers = {issuer.name: replace(issuer, keys=keys.get(issuer.name)) for issuer in snapshot.issuers.values()}
    for name, section in config.issuers.items():
        if section.status_list is not None:
            source = make_status_list_source(section)
            probed += [_probe(uri, issuers[name], snapshot, source) for uri in section.status_list.uris]
    return probed


def _probe(uri: str, issuer: Issuer, snapshot: Snapshot, source: StatusListSource) -> ProbedStatusList:
    if uri.endswith("/"):
        return ProbedStatusList(issuer.name, uri)
    reference = StatusReference(0, uri)
    try:
        listing = source(status_list_need(reference, issuer.name)).value
        if not isinstance(listing, StatusList):
            raise TypeError("a source of status lists gives no list")
        rules = StatusRules(uris=(uri,), accepted=_ANY_STATUS, own_keys=listing.keys is not None)
        verify_status_list(listing, issuer, rules, snapshot, AuditTrail(), NO_FACTS)
        check_entry(listing, reference, rules, time.time(), issuer.rules.leeway)
    except SourceError as error:
        return ProbedStatusList(issuer.name, uri, error=f"{error.result}: {error}")
    except Rejected as rejected:
        return ProbedStatusList(issuer.name, uri, error=rejected.detail)
    return ProbedStatusList(issuer.name, uri, entries=len(listing))
