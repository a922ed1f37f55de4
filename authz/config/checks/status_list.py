"""Checks of the status lists that tokens name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from authz.config.address import check_url
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem
from authz.core.status_list import INVALID, VALID

_MAX_STATUS: Final = 255


def check_status_lists(config: Config) -> Iterator[Problem]:
    """Report URIs that cannot be fetched, and statuses that cannot pass."""
    for name, issuer in config.issuers.items():
        section, path = issuer.status_list, ("issuers", name, "status_list")
        if section is None:
            continue
        if not section.uris:
            yield Problem(path=(*path, "uris"), message="must not be empty: no list could be fetched")
        fetched: dict[KeyPath, str] = {("uris", index): uri for index, uri in enumerate(section.uris)}
        if section.jwks_uri is not None:
            fetched["jwks_uri",] = section.jwks_uri
        for key, url in fetched.items():
            try:
                check_url(url, http=issuer.insecure.http)
            except ValueError as error:
                yield Problem(path=(*path, *key), message=str(error))
        if VALID not in section.accepted:
            yield Problem(path=(*path, "accepted"), message="must have 0, VALID: no token could pass")
        for index, status in enumerate(section.accepted):
            if status == INVALID:
                yield Problem(path=(*path, "accepted", index), message="1 is INVALID: such a token is revoked")
            elif not 0 <= status <= _MAX_STATUS:
                yield Problem(path=(*path, "accepted", index), message=f"must be 0 to {_MAX_STATUS}")
        if section.max_stale < section.interval:
            message = "must not be shorter than interval: a list would end before it is fetched again"
            yield Problem(path=(*path, "max_stale"), message=message)
