"""Server certificates for fakes, good or bad."""

from __future__ import annotations

import ssl
from datetime import datetime

import trustme


def server_context(ca: trustme.CA, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
    """A server's TLS context with a certificate for these names, 127.0.0.1 where none are given.

    A name that the client does not ask for, or a date in the past, makes a certificate that must be refused.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*(names or ("127.0.0.1",)), not_after=not_after).configure_cert(context)
    return context
