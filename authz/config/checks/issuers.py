"""Checks of issuers: their tokens, their algorithms, and the sources of their keys."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from authz.config.address import check_url, is_host, parse_tcp_address
from authz.config.build_issuers import read_inline_keys
from authz.config.checks.outbound import check_client_certificate
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote, render_path, suggest
from authz.core.algorithms import ALGORITHMS
from authz.core.claims import ClaimPath
from authz.core.jwk_normalization import is_empty
from authz.core.spiffe import SCHEME, trust_domain

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_ALIAS: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# RFC 7518 section 6, RFC 9964.
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})


def check_issuers(config: Config) -> Iterator[Problem]:
    """Report problems of each issuer, and duplicate issuers."""
    if not config.issuers:
        yield Problem(path=("issuers",), message="must not be empty", hint="without an issuer no token is valid")
    first: dict[str, str] = {}
    for name, issuer in config.issuers.items():
        path = ("issuers", name)
        if not NAME.fullmatch(name):
            message = "the name of an issuer has at most 64 letters, digits, dots, hyphens and underscores"
            yield Problem(path=path, message=message)
        for iss in dict.fromkeys(issuer.accepted_issuers):
            if iss in first:
                key, subject = ("tenants", f"{iss} ") if issuer.tenants else ("issuer", "")
                message = f"{subject}is the issuer of {quote(first[iss])} already"
                yield Problem(path=(*path, key), message=message)
            first.setdefault(iss, name)
        for check_one in (
            _check_tokens,
            _check_claim_names,
            _check_algorithms,
            _check_key_source,
            _check_urls,
            _check_fetch,
        ):
            yield from check_one(issuer, path)


def _check_tokens(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    if not issuer.audiences and not issuer.insecure.any_audience:
        option = render_path((*path, "insecure", "any_audience"))
        hint = f"a token for another service must not be accepted; to accept any, set {option}"
        yield Problem(path=(*path, "audiences"), message="must name at least one audience", hint=hint)
    if not issuer.token_types:
        yield Problem(path=(*path, "token_types"), message="must not be empty")
    for index, typ in enumerate(issuer.token_types):
        if typ.lower().startswith("application/"):
            hint = f"write {typ[len('application/') :]}"
            yield Problem(path=(*path, "token_types", index), message="must not begin with application/", hint=hint)
    if "exp" not in issuer.required_claims and not issuer.insecure.no_expiry:
        option = render_path((*path, "insecure", "no_expiry"))
        hint = f"a token without it would never expire; to accept one, set {option}"
        yield Problem(path=(*path, "required_claims"), message="must contain exp", hint=hint)
    if not issuer.audience_claim:
        yield Problem(path=(*path, "audience_claim"), message="must not be empty")
    for key in ("audiences", "token_types", "required_claims", "blocked_keys"):
        for index, text in enumerate(getattr(issuer, key)):
            if not text:
                yield Problem(path=(*path, key, index), message="must not be empty")


def _check_claim_names(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    for alias, claim in issuer.claims.items():
        if not _ALIAS.fullmatch(alias):
            message = "the name has at most 64 letters, digits, hyphens and underscores"
            yield Problem(path=(*path, "claims", alias), message=message)
        try:
            ClaimPath.parse(claim)
        except ValueError as error:
            yield Problem(path=(*path, "claims", alias), message=str(error))


def _check_algorithms(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    if not issuer.algorithms:
        yield Problem(path=(*path, "algorithms"), message="must not be empty")
    for index, algorithm in enumerate(issuer.algorithms):
        entry_path = (*path, "algorithms", index)
        if algorithm.strip().lower() == "none":
            yield Problem(path=entry_path, message="none means tokens without a signature: anyone can forge them")
        elif algorithm not in ALGORITHMS:
            message = f"unknown algorithm {quote(algorithm)}"
            yield Problem(path=entry_path, message=message, hint=suggest(algorithm, ALGORITHMS))
        elif ALGORITHMS[algorithm].kty == "oct" and issuer.jwks_file is None:
            message = f"{algorithm} needs a secret, which is only read from jwks_file"
            yield Problem(path=entry_path, message=message)


def _check_key_source(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    sources = issuer.key_sources
    for source in sources[1:]:
        message = f"the keys come from {sources[0]} already"
        yield Problem(path=(*path, source), message=message, hint=f"keep one of {' and '.join(sources)}")
    yield from _check_inline_keys(issuer, (*path, "jwks"))


def _check_inline_keys(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    secret = 0
    for index, key in enumerate(issuer.jwks.keys if issuer.jwks else ()):
        # The configuration is stored in repositories, ConfigMaps and chart values.
        if any(not is_empty(key.get(name)) for name in _PRIVATE_MEMBERS) or key.get("kty") == "oct":
            secret += 1
            hint = "keep only the public members, or put a symmetric key into a jwks_file"
            yield Problem(path=(*path, "keys", index), message="contains private key material", hint=hint)
    try:
        keys = read_inline_keys(issuer)
    except ValueError as error:
        yield Problem(path=path, message=str(error))
        return
    # An empty list is explicit, and blocked keys are valid.
    if keys is not None and not keys.keys and len(keys.rejected_keys) > secret:
        reasons = "; ".join(sorted({why for _, why in keys.rejected}))
        yield Problem(path=path, message=f"contains no usable key: {reasons}")


def _check_urls(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    """Check the URLs that are fetched. With another source of keys, `issuer` is any string (RFC 7519 section 4.1.1).

    For example, AD FS has `http://.../adfs/services/trust`.
    """
    http = issuer.insecure.http
    if not issuer.issuer:
        yield Problem(path=(*path, "issuer"), message="must not be empty")
    elif not issuer.key_sources:
        # OpenID Connect Discovery section 4.1; RFC 8414 section 2.
        yield from _check_one_url(issuer.issuer, (*path, "issuer"), http=http, query=False)
    elif issuer.issuer.startswith(SCHEME) and trust_domain(issuer.issuer) != issuer.issuer:
        message = "is not a trust domain: spiffe://, then lower-case letters, digits, dots, hyphens and underscores"
        yield Problem(
            path=(*path, "issuer"), message=message, hint="the path is part of each sub, and not of the issuer"
        )
    for key in ("discovery_url", "jwks_uri"):
        url = getattr(issuer, key)
        if url is not None:
            yield from _check_one_url(url, (*path, key), http=http)
    for index, url in enumerate(issuer.jwks_uris):
        yield from _check_one_url(url, (*path, "jwks_uris", index), http=http)
        if url in issuer.jwks_uris[:index]:
            yield Problem(path=(*path, "jwks_uris", index), message="is listed twice")


def _check_one_url(url: str, path: KeyPath, *, http: bool, query: bool = True) -> Iterator[Problem]:
    try:
        check_url(url, http=http, query=query)
    except ValueError as error:
        hint = ""
        if url.startswith("http://") and not http:
            hint = f"or set {render_path((*path[:2], 'insecure', 'http'))}"
        elif path[-1] == "issuer" and "://" not in url:
            hint = "discovery needs a URL; or set jwks_uri, jwks or jwks_file"
        yield Problem(path=path, message=str(error), hint=hint)


def _check_fetch(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    fetch, path = issuer.fetch, (*path, "fetch")
    for index, host in enumerate(fetch.allowed_hosts):
        if not is_host(host) and not _is_host_and_port(host):
            message = f"{quote(host)} is neither a host nor host:port, without scheme and path"
            yield Problem(path=(*path, "allowed_hosts", index), message=message)
    for index, text in enumerate(fetch.allowed_networks):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            entry_path = (*path, "allowed_networks", index)
            yield Problem(path=entry_path, message=f"must be a network such as 10.0.0.0/8: {error}")
    if fetch.proxy is not None:
        try:
            check_url(fetch.proxy, http=True, query=False)
            if not fetch.proxy.startswith("http://"):
                raise ValueError("must begin with http://; TLS to the issuer is tunnelled through it")
        except ValueError as error:
            yield Problem(path=(*path, "proxy"), message=str(error))
    elif fetch.proxy_credentials_file is not None:
        yield Problem(path=(*path, "proxy_credentials_file"), message="needs proxy")
    yield from check_client_certificate(fetch, path)


def _is_host_and_port(text: str) -> bool:
    try:
        return parse_tcp_address(text).port > 0
    except ValueError:
        return False
