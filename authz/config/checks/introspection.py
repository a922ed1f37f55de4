"""Checks of the introspection of tokens, and of our client authentication."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from authz.config.checks.outbound import check_called_url
from authz.config.introspection import Client, IntrospectionKind
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote, suggest
from authz.core.algorithms import ALGORITHMS
from authz.core.introspection import IntrospectionMode

# In base64url a JSON object begins with `ey`, or with `ew` if white space but a space follows its brace.
_JWT_START: Final = re.compile(r"e(?:[wy]|\Z)")
_PREFIX: Final = re.compile(r"[A-Za-z0-9._~+/-]{0,64}")
_AUTH_METHODS: Final = ("secret_file", "private_key_file", "mtls", "bearer_token_file")


def check_introspection(config: Config) -> Iterator[Problem]:
    """Report what cannot be asked, and opaque tokens that could be of two issuers."""
    first: dict[str, str] = {}
    for name, issuer in config.issuers.items():
        section, path = issuer.introspection, ("issuers", name, "introspection")
        if section is None:
            continue
        if section.kind is IntrospectionKind.TOKEN_REVIEW:
            yield from _check_review(issuer, path)
            yield from check_client(section.client, issuer, (*path, "client"), has_id=False)
            continue
        if section.token_prefix in first:
            message = f"opaque tokens could be of {quote(first[section.token_prefix])} too"
            hint = "a token is shown to its own issuer only: tell them apart by how they begin"
            yield Problem(path=(*path, "token_prefix"), message=message, hint=hint)
        first.setdefault(section.token_prefix, name)
        yield from _check_endpoint(issuer, path)
        yield from _check_proof(issuer, path)
        yield from check_client(section.client, issuer, (*path, "client"))


def _check_review(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    section = issuer.introspection
    if section is None:
        return
    if section.mode is not IntrospectionMode.ALWAYS:
        message = "must be always: an API server says nothing of exp and aud, which are in the JWT"
        yield Problem(path=(*path, "mode"), message=message)
    if section.url is None:
        hint = "https://kubernetes.default.svc/apis/authentication.k8s.io/v1/tokenreviews"
        yield Problem(path=(*path, "url"), message="must be given with kind: token_review", hint=hint)
    else:
        yield from check_called_url(section.url, (*path, "url"), http=issuer.insecure.http, section=path[:2])
    if not issuer.audiences:
        yield Problem(path=(*path, "kind"), message="needs audiences, which the API server is asked for")
    for key in ("signed", "token_prefix", "token_proof"):
        if getattr(section, key):
            yield Problem(path=(*path, key), message="is for kind: rfc7662")
    if section.client.secret_file is not None or section.client.private_key_file is not None:
        yield Problem(path=(*path, "client"), message="an API server takes a bearer_token_file, or mtls")


def _check_endpoint(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    section = issuer.introspection
    if section is None:
        return
    if issuer.tenants:
        yield Problem(path=path, message="cannot be used with tenants: an opaque token does not name its tenant")
    if section.url is not None:
        yield from check_called_url(section.url, (*path, "url"), http=issuer.insecure.http, section=path[:2])
    elif issuer.key_sources not in ((), ("discovery_url",)):
        message = f"must be given: with {issuer.key_sources[0]} no discovery takes place"
        yield Problem(path=(*path, "url"), message=message)
    if not _PREFIX.fullmatch(section.token_prefix):
        message = "has characters that no token has, or more than 64"
        yield Problem(path=(*path, "token_prefix"), message=message)
    elif _JWT_START.match(section.token_prefix):
        hint = "mode: always asks about JWTs, after their signature was verified"
        yield Problem(path=(*path, "token_prefix"), message="is how JWTs begin", hint=hint)


def _check_proof(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    section = issuer.introspection
    if section is None:
        return
    for member, values in section.token_proof.items():
        if not member or not values or not all(values):
            yield Problem(path=(*path, "token_proof", member), message="must name a member and its values")
    if section.signed and section.client.id is None:
        yield Problem(path=(*path, "signed"), message="needs client.id: a signed answer names who asked")


def check_client(client: Client, issuer: Issuer, path: KeyPath, *, has_id: bool = True) -> Iterator[Problem]:
    """Report a client of *issuer* that cannot prove who it is; with *has_id* it needs an id, or a bearer token."""
    methods = [key for key in _AUTH_METHODS if getattr(client, key)]
    if len(methods) != 1:
        message = f"must have one of {', '.join(_AUTH_METHODS)}"
        yield Problem(path=path, message=message if not methods else f"{message}, and has {' and '.join(methods)}")
    if has_id and not client.id and methods != ["bearer_token_file"]:
        yield Problem(path=path, message="needs the id of the client")
    if client.mtls and issuer.fetch.client_cert_file is None:
        yield Problem(path=(*path, "mtls"), message="needs the certificate in fetch.client_cert_file")
    yield from _check_assertion(client, path)


def _check_assertion(client: Client, path: KeyPath) -> Iterator[Problem]:
    for key in ("key_id", "algorithm"):
        if getattr(client, key) is not None and client.private_key_file is None:
            yield Problem(path=(*path, key), message="is for private_key_file only")
    algorithm = client.algorithm
    if algorithm is None:
        return
    if algorithm not in ALGORITHMS:
        message = f"unknown algorithm {quote(algorithm)}"
        yield Problem(path=(*path, "algorithm"), message=message, hint=suggest(algorithm, ALGORITHMS))
    elif ALGORITHMS[algorithm].kty == "oct":
        yield Problem(path=(*path, "algorithm"), message="is symmetric: use secret_file")
