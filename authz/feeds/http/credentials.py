"""Credentials for fetches, read from their files each time, because they change while the sidecar runs.

Rule of this file: no error message contains the content of a file.
"""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Final

from authz.feeds.failure import RefreshError
from authz.telemetry.keys import Refresh

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_USER_AND_PASSWORD: Final = re.compile(r"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]*")  # RFC 7617 section 2


def read_token(file: str) -> str:
    """Read a bearer token. Raises RefreshError."""
    token = _read("bearer_token_file", file, "ascii")
    if token is None or not _TOKEN.fullmatch(token):
        raise RefreshError(Refresh.MISCONFIGURED, f"fetch.bearer_token_file {file}: does not contain exactly one token")
    return token


def read_proxy_credentials(file: str) -> str:
    """Read `user:password` and return the value of Proxy-Authorization (RFC 7617). Raises RefreshError."""
    pair = _read("proxy_credentials_file", file, "utf-8")
    if pair is None or not _USER_AND_PASSWORD.fullmatch(pair):
        raise RefreshError(
            Refresh.MISCONFIGURED, f"fetch.proxy_credentials_file {file}: does not contain user:password"
        )
    return f"Basic {b64encode(pair.encode()).decode('ascii')}"


def read_password(file: str) -> str:
    """Read a password, which may be any text of one line. Raises RefreshError."""
    try:
        password = Path(file).read_text(encoding="utf-8").strip("\r\n")
    except OSError as error:
        raise RefreshError(Refresh.MISCONFIGURED, f"fetch.password_file {file}: {error.strerror}") from None
    except ValueError:
        password = ""
    if not password or "\n" in password:
        text = f"fetch.password_file {file}: does not contain exactly one password"
        raise RefreshError(Refresh.MISCONFIGURED, text)
    return password


def _read(key: str, file: str, encoding: str) -> str | None:
    """Return the text without surrounding white space; None if it is not in *encoding*. Raises RefreshError."""
    try:
        return Path(file).read_text(encoding=encoding).strip()
    except OSError as error:
        raise RefreshError(Refresh.MISCONFIGURED, f"fetch.{key} {file}: {error.strerror}") from None
    except ValueError:
        return None
