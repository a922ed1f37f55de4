"""Checks of what concerns proofs of possession (DPoP)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from authz.config.address import check_url
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem
from authz.core.algorithms import ALGORITHMS
from authz.core.dpop import SCHEME, Possession

_ASYMMETRIC: Final = tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.kty != "oct")
_HEADER: Final = "dpop"


def check_dpop(config: Config) -> Iterator[Problem]:
    """Report algorithms and origins that no proof can have."""
    path: KeyPath = ("dpop",)
    if not config.dpop.algorithms:
        yield Problem(path=(*path, "algorithms"), message="must not be empty")
    for index, algorithm in enumerate(config.dpop.algorithms):
        if algorithm not in _ASYMMETRIC:
            message = f"is none of {', '.join(_ASYMMETRIC)}"
            yield Problem(path=(*path, "algorithms", index), message=message)
    for index, origin in enumerate(config.dpop.origins):
        if message := _check_origin(origin):
            yield Problem(path=(*path, "origins", index), message=message)


def check_nonces(config: Config) -> Iterator[Problem]:
    """Report workers that would refuse each other's nonces: clients send the last one that they got."""
    used = any(issuer.dpop is not Possession.OFF for issuer in config.issuers.values())
    if used and config.server.workers > 1 and not has_shared_nonces(config):
        message = f"is needed with {config.server.workers} workers: each would refuse the nonces of the others"
        yield Problem(path=("dpop", "nonce_secret_file"), message=message)


def has_shared_nonces(config: Config) -> bool:
    """Whether workers and replicas have the same secret of nonces: one of its own, or that of their revocations."""
    return config.dpop.nonce_secret_file is not None or config.revocation.shared.secret_file is not None


def check_proof_headers(config: Config) -> Iterator[Problem]:
    """Report sources and identity headers that stand in the way of proofs."""
    by_bearer = False
    for index, source in enumerate(config.token.sources):
        by_bearer = by_bearer or source.scheme.lower() == "bearer"
        if source.scheme.lower() == SCHEME.lower():
            message = "the scheme DPoP is added to each header with the scheme Bearer; write issuers.NAME.dpop"
            yield Problem(path=("token", "sources", index, "scheme"), message=message)
        if source.header == _HEADER:
            yield Problem(path=("token", "sources", index, "header"), message="the header dpop holds a proof")
    for name, issuer in config.issuers.items():
        if issuer.dpop is not Possession.OFF and not by_bearer:
            message = "needs a header with the scheme Bearer in token.sources, which may hold the scheme DPoP then"
            yield Problem(path=("issuers", name, "dpop"), message=message)
    for header in config.identity.headers:
        if header.replace("_", "-") == _HEADER:
            yield Problem(path=("identity", "headers", header), message="the header dpop holds a proof")


def _check_origin(origin: str) -> str:
    try:
        check_url(origin, http=True, query=False)
    except ValueError as error:
        return str(error)
    return "must be a scheme and an authority, without a path" if urlsplit(origin).path not in ("", "/") else ""
