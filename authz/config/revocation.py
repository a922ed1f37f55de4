"""Which tokens end before they expire: where entries come from, and how long they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from authz.config.declaring import Field
from authz.config.outbound import BearerTokenFile, CaFile, ClientCertFile, ClientKeyFile, FetchTimeout, Proxy
from authz.config.section import Access, Choice, Duration, Items, Section, Setting, Size
from authz.core.issuer import LogoutScope


class InsecureList(Section):
    """Options that weaken the trust in one list."""

    http: Annotated[
        bool,
        Setting(risk="anyone who controls the network to this list takes entries out of it"),
    ] = False
    """Plain HTTP for the list."""


class InsecureTransmitter(Section):
    """Options that weaken the trust in a transmitter."""

    http: Annotated[bool, Setting(risk="anyone who controls the network to this transmitter controls its keys")] = False
    """Plain HTTP for its keys and events."""


class RevocationList(Section):
    """One list of entries in JSON."""

    url: str | None = None
    """Its URL, or its file (watched)."""
    file: str | None = None
    """Its URL, or its file (watched)."""
    required: bool = True
    """Without a recent list, 503."""
    interval: Annotated[Duration, Setting(bounds=("1s", "24h"))] = timedelta(minutes=1)
    """Time between refreshes."""
    max_stale: Annotated[
        Duration,
        Setting(bounds=("1s", "8760h")),
    ] = timedelta(hours=1)
    """How long a list is recent."""
    timeout: FetchTimeout = timedelta(seconds=10)
    max_bytes: Annotated[Size, Setting(bounds=("1KiB", "512MiB"))] = 16 * 1024 * 1024
    """Size of an answer."""
    ca_file: CaFile = None
    client_cert_file: ClientCertFile = None
    client_key_file: ClientKeyFile = None
    bearer_token_file: BearerTokenFile = None
    proxy: Proxy = None
    insecure: InsecureList = InsecureList()
    """Options that weaken the trust in one list."""


class Transmitter(Section):
    """A transmitter of security events (Shared Signals 1.0, CAEP, RISC)."""

    issuer: str
    """The iss of its events."""
    audiences: Items[str]
    """Accepted audiences."""
    revokes_for: Items[str]
    """Issuers whose tokens it may revoke."""
    jwks_uri: str | None = None
    """Its key set; default: from discovery."""
    revokes: Choice[LogoutScope] = LogoutScope.SESSION
    """Session events revoke the session, or all of its user."""
    push_token_file: str | None = None
    """Bearer token that it must send."""
    poll_url: str | None = None
    """Where events are fetched (RFC 8936)."""
    poll_interval: Annotated[Duration, Setting(bounds=("1s", "1h"))] = timedelta(seconds=5)
    """Time between fetches."""
    poll_token_file: str | None = None
    """Bearer token for fetches."""
    ca_file: CaFile = None
    insecure: InsecureTransmitter = InsecureTransmitter()
    """Options that weaken the trust in a transmitter."""


class SharedRevocations(Section):
    """Events that replicas share, if there is a shared_state."""

    required: Annotated[
        bool, Setting(Access.UNKNOWN, meaning="without it, tokens pass while it is not known which are revoked")
    ] = True
    """503 until events were read, and after max_stale."""
    max_stale: Annotated[
        Duration, Setting(Access.LIMIT, bounds=("1s", "8760h"), meaning="revoked tokens pass for longer")
    ] = timedelta(hours=1)
    """How long known events serve."""
    secret_file: Annotated[str | None, Setting(Access.UNAFFECTED, restart=True)] = None
    """32 octets or more, equal in all replicas, for authz revoke --undo."""


class Revocation(Section):
    """Revoked tokens."""

    max_lifetime: Annotated[
        Duration, Setting(Access.UNKNOWN, bounds=("1m", "8760h"), meaning="revocations are forgotten at another time")
    ] = timedelta(hours=24)
    """Longest lifetime of tokens; events are kept as long."""
    max_entries: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "10000000"))] = 1_000_000
    """Entries of one list, and of all events; more are refused."""
    file: Annotated[str | None, Setting(Access.UNAFFECTED, restart=True)] = None
    """Keeps events over a restart."""
    shared: SharedRevocations = SharedRevocations()
    """Events that replicas share, if there is a shared_state."""
    lists: Annotated[
        Mapping[str, RevocationList],
        Field(examples=[{"partner": {"url": "https://login.example.com/revoked.json"}}]),
        Setting(Access.DENYLISTS, meaning="what only a removed list revokes is allowed"),
    ] = {}
    """JSON lists of entries."""
    transmitters: Annotated[
        Mapping[str, Transmitter],
        Field(
            examples=[
                {
                    "hub": {
                        "issuer": "https://signals.example.com",
                        "audiences": ["https://api.example.com"],
                        "revokes_for": ["corporate"],
                    }
                }
            ]
        ),
        Setting(Access.DENYLISTS, meaning="later events of a removed transmitter end no session"),
    ] = {}
    """Transmitters of security events (Shared Signals)."""


class Logout(Section):
    """Accepts logout tokens at receivers.listen."""

    clients: Annotated[Items[str], Setting(Access.REQUIRED)]
    """Clients (aud) whose logout tokens count."""
    revokes: Annotated[
        Choice[LogoutScope], Setting(Access.UNKNOWN, meaning="other tokens stay valid after a logout")
    ] = LogoutScope.SESSION
    """Tokens of the session (sid), or of the subject."""


class Receivers(Section):
    """Receives logout tokens and security events."""

    listen: Annotated[
        str | None, Field(examples=["127.0.0.1:9193"]), Setting(Access.UNAFFECTED, restart=True, envoy=True)
    ] = None
    """host:port for logout tokens and security events."""
