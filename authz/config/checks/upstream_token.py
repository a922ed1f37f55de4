"""Checks of the token for the upstream, and of the keys that sign it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.config.address import check_url
from authz.config.checks.identity import check_header_name, fold
from authz.config.checks.rules import check_claim
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote
from authz.config.quantity import format_duration
from authz.config.signing import KeyKind
from authz.config.upstream_token import TokenClaim, UpstreamToken
from authz.core.claims import ClaimPath
from authz.core.minting import TokenFormat
from authz.core.published_document import DISCOVERY_PATH, PublishedDocument

_PATH: Final[KeyPath] = ("identity", "token")
_RESERVED_CLAIMS: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti", "txn", "req_wl"})
_MAX_CLAIMS: Final = 64


def check_upstream_token(config: Config) -> Iterator[Problem]:
    """Report a token that no upstream could verify, and headers and claims that must not be written."""
    token = config.identity.token
    if token is None:
        return
    yield from _check_header(token, config)
    if token.exchange is None:
        yield from _check_format(token)
    if not token.audience or not all(token.audience):
        yield Problem(path=(*_PATH, "audience"), message="must name the upstream")
    for index, rule in enumerate(config.rules):
        path: KeyPath = ("rules", index, "upstream_audience")
        if rule.upstream_audience is not None and (not rule.upstream_audience or not all(rule.upstream_audience)):
            yield Problem(path=path, message="must not be empty")
    yield from _check_claims(token, config)


def _check_header(token: UpstreamToken, config: Config) -> Iterator[Problem]:
    path = (*_PATH, "header")
    read = {fold(source.header) for source in config.token.sources if source.header} - {"authorization"}
    message = check_header_name(token.header, read)
    if not message and fold(token.header) in {fold(name) for name in config.identity.headers}:
        message = "is an identity header too (identity.headers)"
    if message:
        yield Problem(path=path, message=message)
    elif token.header == "authorization" and token.format is TokenFormat.TRANSACTION:
        yield Problem(path=path, message="a transaction token must not be sent in authorization", hint="use txn-token")


def _check_format(token: UpstreamToken) -> Iterator[Problem]:
    if token.issuer == "" or (token.issuer is None and token.format is TokenFormat.JWT):
        yield Problem(path=(*_PATH, "issuer"), message="must be given: it is the token's iss")
    if token.format is TokenFormat.TRANSACTION:
        if not token.workload:
            yield Problem(path=(*_PATH, "workload"), message="must be given: it is req_wl, our own identity")
        if len(token.audience) > 1:
            yield Problem(path=(*_PATH, "audience"), message="a transaction token is for one trust domain")


def _check_claims(token: UpstreamToken, config: Config) -> Iterator[Problem]:
    path = (*_PATH, "claims")
    if len(token.claims) > _MAX_CLAIMS:
        yield Problem(path=path, message=f"has {len(token.claims)} claims, at most {_MAX_CLAIMS}")
    written_by: dict[tuple[str, ...], str] = {}
    for name, claim in token.claims.items():
        try:
            names = ClaimPath.parse(name).names
        except ValueError as error:
            yield Problem(path=(*path, name), message=str(error))
            continue
        if names[0] in _RESERVED_CLAIMS:
            yield Problem(path=(*path, name), message="is written by the sidecar")
        for other, written in written_by.items():
            if names[: len(other)] == other or other[: len(names)] == names:
                yield Problem(path=(*path, name), message=f"is a part of {quote(written)}, or the other way round")
        written_by[names] = name
        yield from _check_value(claim, (*path, name), config)


def _check_value(claim: TokenClaim, path: KeyPath, config: Config) -> Iterator[Problem]:
    kinds = [kind for kind in ("claim", "value", "request") if getattr(claim, kind) is not None]
    if len(kinds) != 1:
        yield Problem(path=path, message="must have exactly one of claim, value and request")
    elif claim.claim is not None:
        yield from check_claim(claim.claim, path, config.claim_aliases)


def check_rotation(config: Config) -> Iterator[Problem]:
    """Report keys that some reader could not know, and documents that cannot be served."""
    signing, token = config.signing, config.identity.minted
    rotation, publish = signing.rotation, signing.publish
    path: KeyPath = ("signing", "rotation")
    generated = [name for name, key in signing.keys.items() if key.kind is KeyKind.MEMORY]
    if rotation.state_file is not None and not signing.generates:
        yield Problem(path=(*path, "state_file"), message="is for keys that the sidecar generates (kind memory)")
    if rotation.shared_secret_file is not None:
        yield from _check_shared(config, (*path, "shared_secret_file"))
    if rotation.follow and rotation.state_file is None:
        yield Problem(path=(*path, "follow"), message="needs the state_file")
    if rotation.ahead <= publish.max_age:
        message = f"must be longer than publish.max_age, {format_duration(publish.max_age)}"
        hint = "readers may cache the keys for so long, and would not know the new one"
        yield Problem(path=(*path, "ahead"), message=message, hint=hint)
    if rotation.every <= rotation.ahead:
        yield Problem(path=(*path, "every"), message=f"must be longer than ahead, {format_duration(rotation.ahead)}")
    alone = not rotation.is_kept and (generated or signing.generates)
    if token is not None and alone and config.server.workers > 1:
        message = "must be given: each worker would sign with a key of its own, which the others do not publish"
        yield Problem(path=(*path, "state_file"), message=message, hint="or use shared_secret_file, or one worker")
    yield from _check_publication(config)


def _check_shared(config: Config, path: KeyPath) -> Iterator[Problem]:
    if config.shared_state is None:
        yield Problem(path=path, message="needs shared_state, where the keys are kept")
    if config.signing.rotation.state_file is not None:
        yield Problem(path=path, message="and state_file are two places of the keys: give one")
    if not config.signing.generates:
        yield Problem(path=path, message="is for keys that the sidecar generates (kind memory)")


def _check_publication(config: Config) -> Iterator[Problem]:
    token, publish = config.identity.minted, config.signing.publish
    path: KeyPath = ("signing", "publish")
    if publish.url is not None:
        yield from _check_document(publish.url, (*path, "url"))
    if publish.discovery and publish.url is None:
        yield Problem(path=(*path, "discovery"), message="needs the url, which it names")
    elif publish.discovery and token is not None:
        issuer = (token.issuer or "").removesuffix("/")
        yield from _check_document(issuer + DISCOVERY_PATH, (*path, "discovery"))


def _check_document(url: str, path: KeyPath) -> Iterator[Problem]:
    try:
        check_url(url, http=True, query=False)
        PublishedDocument.served_at(url, "", max_age=0)
    except ValueError as error:
        yield Problem(path=path, message=str(error), hint="it is compared with the host and path of requests")
