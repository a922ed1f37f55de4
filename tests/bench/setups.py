"""What is measured, by name, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Who decides on the requests that Envoy gets."""

    NOBODY = "nobody"
    ENVOY = "Envoy's own filter jwt_authn"
    ENVOY_CACHED = "Envoy's own filter jwt_authn, with its token cache"
    BARE = "a bare grpcio server that allows everything"
    SIDECAR = "this sidecar"
    HEIMDALL = "heimdall"
    OPA = "OPA-Envoy"


class Form(StrEnum):
    """Which code a sidecar runs: this checkout, or a tree that lies in .tools under the form's name."""

    SOURCE = "source"
    COMPILED = "compiled"
    EARLIER = "earlier"


HOW_TO_MAKE: Final[Mapping[Form, str]] = {
    Form.COMPILED: "make compiled",
    Form.EARLIER: "git worktree add .tools/earlier COMMIT",
}
_COMPARED: Final = {Kind.SIDECAR, Kind.HEIMDALL, Kind.OPA}  # that are measured beside a row of this sidecar


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One arrangement. *fresh* means that no token was seen before; *sampled* is the share of calls with a span.

    With *proofs* the token is always the same, and a new proof (DPoP) comes with each request. An *opaque* token is no
    JWT: its issuer was asked about it once (RFC 7662). Without *console* no decision is kept for it; with *logged* each
    has a log line. With *minted* the sidecar signs a token for the upstream, by this algorithm.
    """

    kind: Kind = Kind.SIDECAR
    algorithm: str = "RS256"
    fresh: bool = False
    rules: int = 10
    issuers: int = 1
    sampled: float | None = None
    workers: int = 1
    tcp: bool = False
    proofs: bool = False
    opaque: bool = False
    console: bool = True
    minted: str | None = None
    logged: bool = False
    form: Form = Form.SOURCE

    @property
    def reference(self) -> Setup | None:
        """What it is measured beside: the same without what it names, and for a proof a token never seen before.

        Both have one signature to verify. None for the base, and for those that differ in nothing but the token.
        """
        if self.proofs:
            return replace(self, proofs=False, fresh=True)
        plain = Setup(algorithm=self.algorithm, fresh=self.fresh)
        return None if self.kind not in _COMPARED or self == plain else plain


BASE: Final = Setup()
SETUPS: Final[Mapping[str, Setup]] = {
    "envoy": Setup(kind=Kind.NOBODY),
    "jwt_authn": Setup(kind=Kind.ENVOY),
    "jwt_authn-cache": Setup(kind=Kind.ENVOY_CACHED),
    "bare": Setup(kind=Kind.BARE),
    "base": BASE,
    "ES256": replace(BASE, algorithm="ES256"),
    "EdDSA": replace(BASE, algorithm="EdDSA"),
    "ML-DSA-65": replace(BASE, algorithm="ML-DSA-65"),
    "RS256-new": replace(BASE, fresh=True),
    **{form.value: replace(BASE, form=form) for form in HOW_TO_MAKE},
    **{f"{form.value}-new": replace(BASE, form=form, fresh=True) for form in HOW_TO_MAKE},
    "ES256-new": replace(BASE, algorithm="ES256", fresh=True),
    "EdDSA-new": replace(BASE, algorithm="EdDSA", fresh=True),
    "ML-DSA-65-new": replace(BASE, algorithm="ML-DSA-65", fresh=True),
    "ES256-proof": replace(BASE, algorithm="ES256", proofs=True),
    "introspection": replace(BASE, opaque=True),
    "minted": replace(BASE, minted="ES256"),
    "minted-new-ES256": replace(BASE, minted="ES256", fresh=True),
    "minted-new-EdDSA": replace(BASE, minted="EdDSA", fresh=True),
    "console-off": replace(BASE, console=False),
    "rules-10000": replace(BASE, rules=10_000),
    "issuers-200": replace(BASE, issuers=200),
    "tracing-1%": replace(BASE, sampled=0.01),
    "tracing-100%": replace(BASE, sampled=1.0),
    "logged": replace(BASE, logged=True),
    "workers-2": replace(BASE, workers=2),
    "tcp": replace(BASE, tcp=True),
    **{
        f"{name}{suffix}": replace(BASE, kind=kind, tcp=True, fresh=fresh, rules=rules)
        for name, kind in {"heimdall": Kind.HEIMDALL, "opa-envoy": Kind.OPA}.items()
        for suffix, fresh, rules in (("", False, 10), ("-new", True, 10), ("-rules-10000", False, 10_000))
    },
}
PAGES: Final = "console-pages"
MEMORY: Final = "memory"
READY: Final = "ready"
READY_MANY: Final = "ready-10000"
IDLE: Final = "idle"
WORKER: Final = "worker-more"
RELOAD: Final = "reload-10000"
NAMES: Final = (*SETUPS, PAGES, MEMORY, READY, READY_MANY, IDLE, WORKER, RELOAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound on the median of one *metric*: from below or from above. *aim* is what would be better still."""

    metric: str
    at_least: float | None = None
    below: float | None = None
    aim: float | None = None

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"< {self.below:g}"
        return f"{self.metric} {bound}"

    def is_met(self, value: float) -> bool:
        """Tell whether *value* is within the bound."""
        return (self.at_least is None or value >= self.at_least) and (self.below is None or value < self.below)

    def judge(self, value: float) -> str:
        """Say in words what *value* means for the target."""
        verdict = "met" if self.is_met(value) else "MISSED"
        if self.aim is not None:
            verdict += f", aim {self.aim:g} {'met' if value >= self.aim else 'missed'}"
        return f"{self} {verdict}"


_LATENCY: Final = (Target(metric="added_p50_ms", below=0.15), Target(metric="added_p99_ms", below=1.0))
TARGETS: Final[Mapping[str, Sequence[Target]]] = {
    "base": (Target(metric="ratio", at_least=0.5, aim=0.65), *_LATENCY),
    "RS256-new": (Target(metric="ratio", at_least=0.3, aim=0.4), *_LATENCY),
    "rules-10000": (Target(metric="to_base", at_least=0.9),),
    "issuers-200": (Target(metric="to_base", at_least=0.9),),
    "tracing-1%": (Target(metric="to_base", at_least=0.95),),
    "tracing-100%": (Target(metric="cpu_ratio", below=1.4),),
    "logged": (Target(metric="cpu_ratio", below=1.25),),
    "tcp": (Target(metric="cpu_ratio", below=1.15),),
    "workers-2": (Target(metric="to_base", at_least=1.8),),
    "ES256-proof": (Target(metric="cpu_ratio", below=1.6),),
    "introspection": (Target(metric="cpu_more_us", below=8),),
    "minted": (Target(metric="cpu_more_us", below=10),),
    "minted-new-ES256": (Target(metric="cpu_ratio", below=1.3),),
    "minted-new-EdDSA": (Target(metric="cpu_ratio", below=1.3),),
    "console-off": (Target(metric="cpu_ratio", at_least=0.99),),
    PAGES: (Target(metric="page_ms", below=50), Target(metric="p99_ratio", below=1.1)),
    MEMORY: (Target(metric="rss_mb", below=110), Target(metric="growth_mb", below=1)),
    IDLE: (Target(metric="rss_mb", below=50),),
    WORKER: (Target(metric="pss_mb", below=25),),
    RELOAD: (Target(metric="p99_more_ms", below=1.0),),
    READY: (Target(metric="ready_s", below=1.0),),
}
