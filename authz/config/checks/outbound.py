"""Checks that calls to other systems share: their URLs, credentials and client certificates."""

from __future__ import annotations

from collections.abc import Iterator

from authz.config.address import check_url
from authz.config.problems import KeyPath, Problem, render_path
from authz.config.section import Section

_CERTIFICATE_PAIR = (("client_cert_file", "client_key_file"), ("client_key_file", "client_cert_file"))


def check_called_url(url: str, path: KeyPath, *, http: bool, section: KeyPath) -> Iterator[Problem]:
    """Report a URL that cannot be called, or a plain one without *http*, which `insecure` of *section* permits."""
    try:
        check_url(url, http=http)
    except ValueError as error:
        hint = f"or set {render_path((*section, 'insecure', 'http'))}" if url.startswith("http://") else ""
        yield Problem(path=path, message=str(error), hint=hint)


def check_client_certificate(section: Section, path: KeyPath) -> Iterator[Problem]:
    """Report a certificate without its key, or a key without its certificate."""
    for key, other in _CERTIFICATE_PAIR:
        if getattr(section, key) is not None and getattr(section, other) is None:
            yield Problem(path=(*path, key), message=f"needs {other} too")


def check_authorization(section: Section, path: KeyPath) -> Iterator[Problem]:
    """Report two credentials for the one Authorization header of a request."""
    keys = ("bearer_token_file", "basic_credentials_file")
    if all(getattr(section, key) is not None for key in keys):
        message = "a request has one Authorization header: bearer_token_file is there already"
        yield Problem(path=(*path, "basic_credentials_file"), message=message)
