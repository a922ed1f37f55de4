"""Where replicas keep what they must all know: a Valkey or Redis server."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from authz.config.declaring import Field
from authz.config.outbound import CaFile, ClientCertFile, ClientKeyFile
from authz.config.section import Access, Duration, Section, Setting


class InsecureSharedState(Section):
    """Options that weaken the connection."""

    plaintext: Annotated[
        bool,
        Setting(
            Access.LOOSENED,
            risk="anyone who controls the network to the shared state can change what replicas remember",
        ),
    ] = False
    """No TLS beyond loopback."""


class SharedState(Section):
    """Valkey or Redis (extra `[shared]`) of all replicas; no cluster, no eviction."""

    url: Annotated[
        str,
        Field(examples=["rediss://valkey.example.com:6379/0"]),
        Setting(Access.UNKNOWN, meaning="what replicas remember is elsewhere"),
    ]
    """rediss or valkeys (TLS), redis or valkey."""
    username: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """User, if not the default one."""
    password_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Password."""
    ca_file: CaFile = None
    client_cert_file: ClientCertFile = None
    client_key_file: ClientKeyFile = None
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "10s"), envoy=True)] = timedelta(
        milliseconds=500
    )
    """Time for an answer; a request may wait twice as long."""
    prefix: Annotated[str, Setting(Access.UNKNOWN, meaning="what replicas remember has other names")] = "authz:"
    """Prefix of all keys."""
    insecure: InsecureSharedState = InsecureSharedState()
    """Options that weaken the connection."""
