"""Fetch the keys of each issuer of a configuration once, with the code of the feeds, and report the result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from authz.config.build import build_snapshot
from authz.config.build_issuers import inline_keys
from authz.config.diagnostics.unused_keys import why_unused
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.core.keys import Key, KeySet
from authz.feeds.build_feed import make_source
from authz.feeds.failure import RefreshError
from authz.feeds.key_history import show_thumbprint
from authz.telemetry.keys import Refresh
from authz.telemetry.redaction import escaped, printable
from authz.tooling.describe import describe_key
from authz.tooling.expected_claims import describe_expected_claims

MAX_CONCURRENT: Final = 8

ADVICE: Final[Mapping[Refresh, str]] = {
    Refresh.UPDATED: "",
    Refresh.NOT_MODIFIED: "",
    Refresh.DISCOVERY_REJECTED: (
        "`issuer` must be exactly that of the document, including a trailing slash; or set jwks_uri to the key set"
    ),
    Refresh.INTERNAL_ERROR: "this is a bug in authz: please report it",
    Refresh.JWKS_REJECTED: "check the response of the URL: it must be a JSON Web Key Set with a usable key",
    Refresh.LIST_REJECTED: "check the response of the URL, or the file: it must be a list of revocations",
    Refresh.MISCONFIGURED: "check that the file exists, is readable for this user, and has the right content",
    Refresh.REDIRECT_REFUSED: "if the target belongs to the issuer, configure that URL as jwks_uri or discovery_url",
    Refresh.STATUS: "check the URL, and whether the issuer requires a bearer_token_file",
    Refresh.TIMEOUT: "check that this host can reach it (a proxy? a network policy?), or raise fetch.timeout",
    Refresh.TLS: "check that its certificate is for this name, or set fetch.ca_file, or a required client_cert_file",
    Refresh.TOO_LARGE: "check the URL, or raise fetch.max_bytes",
    Refresh.UNREACHABLE: "check that the name resolves here and the port is open, or set fetch.proxy",
    Refresh.UNTRUSTED: "allow the host as described, if it belongs to the issuer",
}
"""What to do about each kind of failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedKeys:
    """The result for one issuer: *keys*, or the *result* and *detail* of the failure. Durations are in seconds.

    *location* is the URL, or those of discovery document and key set. *fresh_for* is from the response. *expected*
    describes the claims that rules require in its tokens.
    """

    issuer: str
    iss: str
    algorithms: frozenset[str]
    algorithms_configured: bool
    location: str
    result: Refresh
    keys: KeySet | None = None
    detail: str = ""
    fresh_for: float | None = None
    seconds: float = 0.0
    expected: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether any token can be verified."""
        return any(why is None for _, why in self._usability())

    def _usability(self) -> list[tuple[Key, str | None]]:
        """Return each valid key with the reason why it verifies no token of this issuer, or None."""
        keys = self.keys.keys if self.keys is not None else ()
        configured = self.algorithms_configured
        return [(key, why_unused(key, self.algorithms, configured=configured)) for key in keys]

    @property
    def advice(self) -> str:
        """What to do about the result."""
        if self.keys is not None and not self.ok:
            return "no key is usable: no token can be verified"
        return ADVICE[self.result]

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"{self.issuer}: {self.iss}"
        yield f"  source        {printable(self.location)}"
        if self.keys is None:
            yield f"  failed        {self.result}, after {self.seconds:.2f} s: {self.detail}"
        else:
            fresh = "without Cache-Control or Expires" if self.fresh_for is None else f"good for {self.fresh_for:.0f} s"
            yield f"  answered      in {self.seconds:.2f} s, {fresh}"
            for key, why in self._usability():
                use = f"alg {escaped(key.alg) or 'any of its type'}" if why is None else why
                yield f"  {'usable  ' if why is None else 'unusable'}      {escaped(describe_key(key))}, {use}"
                yield from (f"  note          kid {escaped(key.kid) or 'absent'}: {note}" for note in key.notes)
            for kid, why in self.keys.rejected:
                yield f"  rejected      kid {escaped(kid) or 'absent'}: {escaped(why)}"
            for name in self.keys.unmatched_blocks:
                yield f"  unmatched     {escaped(name)}: a blocked key that is not in the set"
        for line in self.expected:
            yield f"  claims        {escaped(line)}"
        if self.expected:
            yield "  to do         check a token: authz explain --config FILE --path PATH --token-file TOKEN"
        if self.advice:
            yield f"  to do         {self.advice}"

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        rejected = self.keys.rejected if self.keys is not None else ()
        return {
            "issuer": self.issuer,
            "iss": self.iss,
            "source": self.location,
            "ok": self.ok,
            "result": self.result.value,
            "detail": self.detail,
            "advice": self.advice,
            "expected_claims": list(self.expected),
            "seconds": round(self.seconds, 3),
            "fresh_for_seconds": self.fresh_for,
            "keys": [
                {
                    "kid": key.kid,
                    "kty": key.kty,
                    "bits": key.bits,
                    "alg": key.alg,
                    "thumbprint": show_thumbprint(key),
                    "not_serving": why,
                    "notes": list(key.notes),
                }
                for key, why in self._usability()
            ],
            "rejected": [{"kid": kid, "why": why} for kid, why in rejected],
            "blocked_unmatched": list(self.keys.unmatched_blocks if self.keys is not None else ()),
        }


def probe_keys(config: Config) -> list[ProbedKeys]:
    """Fetch the keys of every issuer once, several concurrently, without cache and retries."""
    with ThreadPoolExecutor(MAX_CONCURRENT) as pool:
        fetched = list(pool.map(lambda entry: probe_issuer_keys(*entry), config.issuers.items()))
    snapshot = build_snapshot(config)
    issuers = {issuer.name: issuer for issuer in snapshot.issuers.values()}
    return [
        replace(
            issuer_keys, expected=tuple(describe_expected_claims(issuers[issuer_keys.issuer], snapshot.policy.rules))
        )
        for issuer_keys in fetched
    ]


def probe_issuer_keys(name: str, section: Issuer) -> ProbedKeys:
    """Fetch the keys of one issuer once."""
    if section.jwks is not None:
        keys, location = inline_keys(section), "this configuration (jwks)"
        return ProbedKeys(
            issuer=name,
            iss=section.issuer,
            algorithms=frozenset(section.algorithms),
            algorithms_configured=section.algorithms_configured,
            location=location,
            result=Refresh.UPDATED,
            keys=keys,
        )
    source = make_source(section, now=time.time, monotonic=time.monotonic)
    began = time.monotonic()
    try:
        loaded = source.load(on_demand=False)
    except RefreshError as error:
        result, keys, detail, fresh_for = error.result, None, str(error), None
    else:
        result, keys, detail, fresh_for = Refresh.UPDATED, loaded.value, "", loaded.fresh_for
    return ProbedKeys(
        issuer=name,
        iss=section.issuer,
        algorithms=frozenset(section.algorithms),
        algorithms_configured=section.algorithms_configured,
        location=source.location,
        result=result,
        keys=keys,
        detail=detail,
        fresh_for=fresh_for,
        seconds=time.monotonic() - began,
    )
