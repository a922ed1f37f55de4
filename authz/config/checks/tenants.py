"""Checks of multi-tenant issuers: `iss` templates, tenants, and Entra's endpoints for all tenants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from authz.config.issuer import TENANT, Issuer
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem, quote

_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}")
_ONE_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
# Microsoft Entra ID, and its national clouds.
_ENTRA: Final = frozenset(
    {
        "login.microsoftonline.com",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "login.windows.net",
        "sts.windows.net",
    }
)
_FOR_MANY_TENANTS: Final = frozenset({"common", "organizations", "consumers"})
_REMEDY: Final = (
    f"replace it by the id of your tenant, or keep {TENANT} there and list the ids of your tenants in tenants"
)


def check_tenants(config: Config) -> Iterator[Problem]:
    """Report an `issuer` that no token can have, and invalid tenants."""
    for name, issuer in config.issuers.items():
        path = ("issuers", name)
        yield from _check_template(issuer, path)
        urls: list[tuple[KeyPath, str | None]] = [
            (("discovery_url",), issuer.discovery_url),
            (("jwks_uri",), issuer.jwks_uri),
        ]
        urls += [(("jwks_uris", index), url) for index, url in enumerate(issuer.jwks_uris)]
        for key, url in urls:
            if (placeholder := _PLACEHOLDER.search(url or "")) is not None:
                message = f"has the placeholder {placeholder[0]}, and is fetched as it is"
                hint = "replace it by common, or by the id of a tenant"
                yield Problem(path=(*path, *key), message=message, hint=hint)
        for index, tenant in enumerate(issuer.tenants):
            message = _check_tenant(tenant, issuer)
            if not message and tenant in issuer.tenants[:index]:
                message = "is listed twice"
            if message:
                yield Problem(path=(*path, "tenants", index), message=message)


def _check_template(issuer: Issuer, path: KeyPath) -> Iterator[Problem]:
    if issuer.tenants and issuer.issuer.count(TENANT) != 1:
        message = f"needs {TENANT} exactly once in issuer"
        yield Problem(path=(*path, "tenants"), message=message)
        return
    fixed = issuer.issuer.replace(TENANT, "") if issuer.tenants else issuer.issuer
    if (placeholder := _PLACEHOLDER.search(fixed)) is not None:
        message = f"has the placeholder {placeholder[0]}, which no token has in iss"
        yield Problem(path=(*path, "issuer"), message=message, hint=_REMEDY)
    elif (segment := _segment_for_many(issuer.issuer)) is not None:
        message = f"no token has {quote(segment)} in iss, but the id of its tenant"
        yield Problem(path=(*path, "issuer"), message=message, hint=_REMEDY.replace("keep", "write"))


def _check_tenant(tenant: str, issuer: Issuer) -> str:
    if not _ONE_SEGMENT.fullmatch(tenant):
        return "must have only letters, digits and any of . _ -"
    if _is_entra(issuer.issuer) and not _GUID.fullmatch(tenant):
        return "must be the tenant's id, in lower case: iss never has the tenant's domain name"
    return ""


def _segment_for_many(issuer: str) -> str | None:
    segment = urlsplit(issuer).path.partition("/")[2].partition("/")[0] if _is_entra(issuer) else ""
    return segment if segment in _FOR_MANY_TENANTS else None


def _is_entra(issuer: str) -> bool:
    try:
        return urlsplit(issuer).hostname in _ENTRA
    except ValueError:
        return False
