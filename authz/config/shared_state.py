"""Where replicas keep what they must all know: a Valkey or Redis server."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from authz.config.section import Access, Duration, Section, Setting


class InsecureSharedState(Section):
    """Options that weaken the connection; each warns at start and shows in `authz_insecure_options`."""

    plaintext: Annotated[
        bool,
        Setting(
            Access.LOOSENED,
            risk="anyone who controls the network to the shared state can change what replicas remember",
        ),
    ] = False
    """Connect without TLS beyond loopback."""


class SharedState(Section):
    """A Valkey or Redis server (extra [shared]) that all replicas use; not a cluster, and not one that evicts keys."""

    url: Annotated[
        str,
        Field(examples=["rediss://valkey.example.com:6379/0"]),
        Setting(Access.UNKNOWN, meaning="what replicas remember is elsewhere"),
    ]
    """rediss or valkeys (TLS), or redis or valkey, with host, port (6379) and number of the database (0)."""
    username: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """The user, if it is not the default one; needs password_file."""
    password_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with the password; read at each connection."""
    ca_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """PEM file of the trusted authorities, in place of the system's."""
    client_cert_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of the client certificate and its chain (mutual TLS)."""
    client_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of its key, without a password."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(
        milliseconds=500
    )
    """Bound of each answer of the server; a request waits for it at most twice as long."""
    prefix: Annotated[str, Setting(Access.UNKNOWN, meaning="what replicas remember has other names")] = "authz:"
    """How the names of all keys begin; the same for the replicas that share, and no one else's."""
    insecure: InsecureSharedState = InsecureSharedState()
    """Options that weaken the connection."""
