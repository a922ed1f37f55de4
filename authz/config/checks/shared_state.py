"""Checks of the server that replicas share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from authz.config.address import TcpAddress, is_host
from authz.config.checks.outbound import check_client_certificate
from authz.config.model import Config
from authz.config.problems import KeyPath, Problem

_PATH: Final[KeyPath] = ("shared_state",)
_SCHEMES: Final = ("rediss", "valkeys", "redis", "valkey")
_ENCRYPTED: Final = _SCHEMES[:2]
_DATABASE: Final = re.compile(r"/?|/[0-9]{1,4}")
_PREFIX: Final = re.compile(r"[!-z|~]{1,64}")


def check_shared_state(config: Config) -> Iterator[Problem]:
    """Report a server that cannot be reached so, or not safely."""
    section = config.shared_state
    if section is None:
        return
    try:
        scheme, address = _parse(section.url)
    except ValueError as error:
        yield Problem(path=(*_PATH, "url"), message=str(error))
        return
    if scheme not in _ENCRYPTED:
        if not address.loopback and not section.insecure.plaintext:
            hint = "rediss:// or valkeys://, or set shared_state.insecure.plaintext"
            yield Problem(path=(*_PATH, "url"), message="except on loopback, it needs TLS", hint=hint)
        for key in ("ca_file", "client_cert_file", "client_key_file"):
            if getattr(section, key) is not None:
                yield Problem(path=(*_PATH, key), message=f"is for TLS, and the url begins with {scheme}://")
    yield from check_client_certificate(section, _PATH)
    if section.username is not None and section.password_file is None:
        yield Problem(path=(*_PATH, "username"), message="needs password_file")
    if not _PREFIX.fullmatch(section.prefix):
        message = "must be 1 to 64 visible ASCII characters, without { and }"
        yield Problem(path=(*_PATH, "prefix"), message=message)


def _parse(url: str) -> tuple[str, TcpAddress]:
    """Return the scheme and the address of *url*. Raises ValueError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # malformed brackets or port
        raise ValueError("must have a valid host and port") from None
    if parts.scheme not in _SCHEMES or "://" not in url:
        raise ValueError(
            f"must begin with {', '.join(f'{scheme}://' for scheme in _SCHEMES[:-1])} or {_SCHEMES[-1]}://"
        )
    if "@" in parts.netloc:
        raise ValueError("must not contain a user or password: write username and password_file")
    if not is_host(host) or port == 0:
        raise ValueError("must have a host, and a valid port if there is one")
    if parts.query or parts.fragment or "?" in url or "#" in url or not _DATABASE.fullmatch(parts.path):
        raise ValueError("must end with the number of the database, such as /0, or with the port")
    return parts.scheme, TcpAddress(host, port or 0)
