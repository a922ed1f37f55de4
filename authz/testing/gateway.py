"""The sidecar's decisions in a test: your configuration, generated keys, and no network.

Rules of this file:
1. Requests are evaluated by the server's own code, from request bytes to response bytes.
2. The configuration is loaded as the server does. Only the keys of each issuer are replaced.
3. Nothing is fetched, and the clock does not advance.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, cast
from urllib.parse import quote

from authz.config.build import build_snapshot
from authz.config.issuer import Issuer as IssuerSection
from authz.config.load import load, parse
from authz.config.model import Config
from authz.core import base64url
from authz.core.binding import certificate_thumbprint
from authz.core.dpop import SCHEME as DPOP
from authz.core.introspection import Introspection
from authz.core.keys import KeySet
from authz.core.minting import MINTED, SigningKey
from authz.core.needs import PROOF
from authz.core.request import Request, join_headers
from authz.core.snapshot import Snapshot
from authz.core.spiffe import SCHEME
from authz.core.token import HeaderSource, place_token
from authz.demo.signing import SigningKey as IssuerKey
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer, Lane
from authz.facts.proofs import ProofLane, ProofMemory
from authz.signing.local import LocalSigner
from authz.signing.minter import Minter, MintLane
from authz.telemetry.check_record import CheckRecord
from authz.testing.answers import PdpReply, answer_about_risk, answer_by_pdp
from authz.testing.exchange import answer_exchange
from authz.testing.introspection import answer_introspection
from authz.testing.verdict import Verdict

AT: Final = 1_800_000_000.0  # seconds since the epoch: 15 January 2027, 08:00 UTC
LIFETIME: Final = 300.0  # seconds, unless max_lifetime of the issuer is shorter

_URL: Final = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?]+)(?P<path>.*)", re.DOTALL)
_INSTANTS: Final = frozenset({"iat", "nbf", "auth_time"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Evaluates requests against a configuration. *keys* are the issuers' keys by name; *at* is the Unix time.

    *signer* signs the tokens for the upstream, if the configuration has one.

    `dataclasses.replace(gateway, at=...)` is the same gateway at another time.
    """

    config: Config
    keys: Mapping[str, IssuerKey] = field(repr=False)
    snapshot: Snapshot = field(repr=False)
    signer: LocalSigner
    at: float = AT

    @classmethod
    def from_file(cls, path: str | Path, *, at: float = AT) -> Self:
        """Load the configuration file at *path*. Raises ConfigError with all of its problems."""
        return cls.from_config(load(path), at=at)

    @classmethod
    def from_text(cls, text: str, *, at: float = AT) -> Self:
        """Load the YAML *text*. Raises ConfigError with all of its problems."""
        return cls.from_config(parse(text, file="text"), at=at)

    @classmethod
    def from_config(cls, config: Config, *, at: float = AT) -> Self:
        """Use a loaded configuration, with a generated key instead of each issuer's keys."""
        keys = {name: IssuerKey.create(_algorithm(section)) for name, section in config.issuers.items()}
        snapshot = build_snapshot(config)
        signer = LocalSigner.generate("ES256")
        if snapshot.minting is not None:
            key = SigningKey(signer.kid, signer.algorithm)
            snapshot = replace(snapshot, minting=replace(snapshot.minting, key=key))
        issuers = {
            iss: replace(issuer, keys=KeySet.from_json(_publish(keys[issuer.name]), local=True))
            for iss, issuer in snapshot.issuers.items()
        }
        return cls(config=config, keys=keys, snapshot=replace(snapshot, issuers=issuers), signer=signer, at=at)

    def mint(
        self,
        issuer: str,
        claims: Mapping[str, object] | None = None,
        /,
        *,
        header: Mapping[str, object] | None = None,
        key: IssuerKey | None = None,
        certificate: str | None = None,
        bound_to: IssuerKey | None = None,
        **others: object,
    ) -> str:
        """Sign a token of the issuer configured as *issuer*. Without changes it is valid.

        *claims* and *others* change its claims, *header* its JOSE header; None removes a member. Whatever the header
        contains, *key*, or the issuer's own key, signs with its own algorithm. A *certificate*, in PEM, is the one that
        the token is bound to (RFC 8705), *bound_to* the client's key (RFC 9449). Raises KeyError for an issuer that is
        not configured.
        """
        if (section := self.config.issuers.get(issuer)) is None:
            raise KeyError(f"no issuer is configured as {issuer!r}, but {', '.join(map(repr, self.config.issuers))}")
        signer = key or self.keys[issuer]
        confirmation = {} if certificate is None else {"x5t#S256": certificate_thumbprint(certificate)}
        confirmation |= {} if bound_to is None else {"jkt": bound_to.jwk.thumbprint()}
        bound = {"cnf": confirmation} if confirmation else {}
        usual_header = {**signer.header(), "typ": section.token_types[0]}
        return signer.sign(
            _change({**_valid_claims(section, self.at), **bound}, {**(claims or {}), **others}),
            header=_change(usual_header, header or {}),
        )

    def prove(self, key: IssuerKey, method: str, url: str, *, token: str, **claims: object) -> str:
        """Sign a proof that the client holds *key*, for a request with *token* (DPoP, RFC 9449).

        *claims* change its claims; None removes one.
        """
        jwk = json.loads(key.jwk.export_public())
        jwk.pop("kid", None)
        header = {"typ": "dpop+jwt", "alg": key.algorithm, "jwk": jwk}
        digest = base64url.encode(hashlib.sha256(token.encode()).digest()).decode()
        usual = {"jti": "proof", "htm": method, "htu": url, "iat": int(self.at), "ath": digest}
        return key.sign(_change(usual, claims), header=header)

    def decide(  # noqa: PLR0913 - one for each part of a request
        self,
        method: str,
        url: str,
        *,
        token: str | None = None,
        proof: str | None = None,
        headers: Mapping[str, str] | None = None,
        context: Mapping[str, str] | None = None,
        certificate: str = "",
        answer: Mapping[str, object] | None = None,
        pdp: PdpReply | None = None,
        risk: Mapping[str, object] | None = None,
        at: float | None = None,
    ) -> Verdict:
        """Evaluate a request for *url*, whose path is not normalized.

        A *token* is placed in the first configured source; with a *proof* it is sent under the scheme DPoP, and the
        proof counts as used for the first time. *context* are the context_extensions of the route in Envoy,
        *certificate* is the client's, in PEM. *answer* is what the issuer says of the token, if it is asked (RFC 7662);
        without one it cannot be asked. *pdp* is what a PDP answers, or a function of its question. *risk* is what a
        risk engine says (`level`, `score`) and what is known of the client, by the names that conditions read. *at*
        replaces the gateway's time. Raises ValueError for a *url* that is not http, and an unknown name in *risk*.
        """
        scheme, host, path = _split(url)
        request = Request(
            method=method,
            scheme=scheme,
            host=host,
            path=path,
            headers=join_headers([*(headers or {}).items(), *([] if proof is None else [("dpop", proof)])]),
            context=context or {},
            certificate=quote(certificate),  # as Envoy writes it
        )
        if token is not None:
            source = self.snapshot.token.sources[0] if proof is None else HeaderSource("authorization", DPOP)
            request = place_token(token, source, request)
        now = self.at if at is None else at
        proofs = ProofMemory(max_proofs=1, now=lambda: now, monotonic=lambda: 0.0, secret=b"")
        lanes: dict[str, Lane] = {  # all keys are available
            PROOF: ProofLane(proofs),
            MINTED: self._make_lane(now),
            **answer_exchange(),
            **answer_by_pdp(pdp, {name: section.kind for name, section in self.config.pdps.items()}),
            **answer_about_risk(risk or {}),
        }
        if answer is not None:
            lanes |= answer_introspection(answer, self._find_issuer)
        return self._check(request, lanes, now)

    def _check(self, request: Request, lanes: Mapping[str, Lane], now: float) -> Verdict:
        """Send *request* through the checker of the sidecar. *lanes* answer at once."""
        records: list[CheckRecord] = []
        checker = Checker(
            snapshot=lambda: self.snapshot,
            gatherer=Gatherer(lanes, monotonic=lambda: 0.0),
            report=records.append,
            now=lambda: now,
            elapsed=lambda: 0.0,
            new_id=lambda: "0000000000000000",
        )
        # No lane lets a check wait: the response is never deferred.
        response = cast("bytes", checker.check(_encode(request), received=0.0, time_left=None))
        minted = self.config.identity.token
        return Verdict.read(
            response,
            records[0].decision,
            sent=request.headers,
            identity=self.config.identity.headers,
            token_header=None if minted is None else minted.header,
        )

    def _find_issuer(self, name: str) -> tuple[Introspection | None, str, IssuerKey]:
        issuer = next(issuer for issuer in self.snapshot.issuers.values() if issuer.name == name)
        return issuer.introspection, issuer.rules.issuer, self.keys[name]

    def _make_lane(self, now: float) -> MintLane:
        signers = {self.signer.kid: self.signer}
        return MintLane(
            lambda: signers,
            dict,
            Minter(lambda: now, lambda: "transaction"),
            max_cached=lambda: 1,
            max_waiting=0,
            observer=_Unobserved(),
        )


class _Unobserved:
    def on_cache_hit(self) -> None:
        pass

    def on_signing_ended(self, result: str) -> None:
        pass


def _encode(request: Request) -> bytes:
    """Encode *request* as Envoy does."""
    check = wire.CheckRequest()
    http = check.attributes.request.http
    http.method, http.scheme, http.host, http.path = request.method, request.scheme, request.host, request.path
    http.headers.update(request.headers)
    check.attributes.context_extensions.update(request.context)
    check.attributes.source.certificate = request.certificate
    return check.SerializeToString()


def _algorithm(section: IssuerSection) -> str:
    """Choose the algorithm of an issuer's throwaway key: ES256 if allowed, because generating an RSA key is slow."""
    return "ES256" if "ES256" in section.algorithms else section.algorithms[0]


def _publish(key: IssuerKey) -> str:
    symmetric: dict[str, Any] = json.loads(key.jwk.export()) if key.algorithm.startswith("HS") else {}
    return json.dumps({"keys": [{**symmetric, "kid": key.kid, "alg": key.algorithm} if symmetric else key.public()]})


def _valid_claims(section: IssuerSection, at: float) -> dict[str, object]:
    """Return the claims that the configuration requires of every token of this issuer."""
    lifetime = section.max_lifetime.total_seconds() if section.max_lifetime is not None else LIFETIME
    claims: dict[str, object] = {
        "iss": section.accepted_issuers[0],
        "sub": f"{section.issuer}/alice" if section.issuer.startswith(SCHEME) else "alice",
        section.audience_claim: section.audiences[0] if section.audiences else "any",
        "iat": int(at),
        "exp": int(at + min(lifetime, LIFETIME)),
    }
    for name in section.required_claims:
        claims.setdefault(name, int(at) if name in _INSTANTS else name)
    return claims


def _change(members: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in {**members, **changes}.items() if value is not None}


def _split(url: str) -> tuple[str, str, str]:
    """Return scheme, host and path of *url*; the path is not normalised. Raises ValueError."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(f"{url!r} is not an http or https URL")
    path = match["path"]
    return match["scheme"], match["host"], path if path.startswith("/") else f"/{path}"
