"""Build the console of one process, or of the supervisor of several, and its paths for revocations."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from authz.admin.console.access import Access, read_token_of
from authz.admin.console.routes import ConsoleSource, make_console_routes
from authz.admin.revocations import RevocationBackend, make_revocation_routes
from authz.admin.routes import Route
from authz.config.model import Console


def console_routes(source: ConsoleSource, console: Console) -> Mapping[str, Route]:
    """Return the console's routes of the admin port."""
    access = Access(read_token_of(console.token_file), csrf=secrets.token_urlsafe())
    return make_console_routes(source, access, clock=time.time, writable=not console.read_only)


def revocation_routes(backend: RevocationBackend, console: Console) -> Mapping[str, Route]:
    """Return the routes of the admin port for revocations; a program that may use the console may revoke."""
    return make_revocation_routes(backend, Access(read_token_of(console.token_file), csrf=""))
