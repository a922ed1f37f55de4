"""Which tokens end before they expire: where entries come from, and how long they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import Field

from authz.config.section import Access, Duration, Items, Section, Setting, Size, Word
from authz.core.issuer import LogoutScope


class InsecureList(Section):
    """Options that weaken the trust in one list; each warns at start and shows in `authz_insecure_options`."""

    http: Annotated[
        bool,
        Setting(risk="anyone who controls the network to this list takes entries out of it"),
    ] = False
    """Plain HTTP for its URL."""


class InsecureTransmitter(Section):
    """Options that weaken the trust in a transmitter; each warns at start and shows in `authz_insecure_options`."""

    http: Annotated[bool, Setting(risk="anyone who controls the network to this transmitter controls its keys")] = False
    """Plain HTTP for its URLs."""


class RevocationList(Section):
    """One list of entries in JSON, at a URL or in a file; an entry that is taken out of it is no longer revoked."""

    url: str | None = None
    """URL of the list."""
    file: str | None = None
    """File with the list, watched."""
    required: bool = True
    """Without the list, or one that is recent enough: readiness waits for it, and tokens get 503."""
    interval: Annotated[Duration, Setting(bounds=("1s", "24h"))] = timedelta(minutes=1)
    """Time between refreshes of a URL, unless the answer says for how long it is fresh; then at most ten times it."""
    max_stale: Annotated[
        Duration,
        Setting(bounds=("1s", "8760h")),
    ] = timedelta(hours=1)
    """How long the last good list counts as recent while refreshes fail."""
    timeout: Annotated[Duration, Setting(bounds=("1ms", "1m"))] = timedelta(seconds=10)
    """Bound of one whole exchange."""
    max_bytes: Annotated[Size, Setting(bounds=("1KiB", "512MiB"))] = 16 * 1024 * 1024
    """Largest list that is read."""
    ca_file: str | None = None
    """PEM file of the trusted authorities, in place of the system's."""
    client_cert_file: str | None = None
    """PEM file of the client certificate and its chain (mutual TLS)."""
    client_key_file: str | None = None
    """PEM file of its key, without a password."""
    bearer_token_file: str | None = None
    """File with a bearer token for fetches; read each time."""
    proxy: str | None = None
    """HTTP proxy for fetches."""
    insecure: InsecureList = InsecureList()
    """Options that weaken the trust in it."""


class Transmitter(Section):
    """A transmitter of security events (Shared Signals): who signs them, for whom, and about whose tokens."""

    issuer: str
    """The iss of its events."""
    audiences: Items[str]
    """An event must name one of these."""
    revokes_for: Items[str]
    """Issuers, by their names here, whose tokens it may revoke."""
    jwks_uri: str | None = None
    """URL of its key set; without it, discovery below the issuer."""
    revokes: Word[LogoutScope] = LogoutScope.SESSION
    """What an event about a session ends: session: tokens with its sid; subject: all of its user until then."""
    push_token_file: str | None = None
    """File with the bearer token that it must present when it pushes events; read each time."""
    poll_url: str | None = None
    """URL at which events are fetched (RFC 8936), for one that does not push."""
    poll_interval: Annotated[Duration, Setting(bounds=("1s", "1h"))] = timedelta(seconds=5)
    """Time between two fetches."""
    poll_token_file: str | None = None
    """File with a bearer token for fetches; read each time."""
    ca_file: str | None = None
    """PEM file of the trusted authorities, in place of the system's."""
    insecure: InsecureTransmitter = InsecureTransmitter()
    """Options that weaken the trust in it."""


class Revocation(Section):
    """Tokens that end before they expire."""

    max_lifetime: Annotated[
        Duration, Setting(Access.UNKNOWN, bounds=("1m", "8760h"), meaning="revocations are forgotten at another time")
    ] = timedelta(hours=24)
    """The longest lifetime of a token here: an event is remembered for so long."""
    max_entries: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "10000000"))] = 1_000_000
    """Entries of one list, and of all events together; if there is no room an event is refused, and none forgotten."""
    file: Annotated[str | None, Setting(Access.UNAFFECTED, restart=True)] = None
    """File in which past events survive a restart; its folder must be writable."""
    lists: Annotated[
        Mapping[str, RevocationList],
        Field(examples=[{"partner": {"url": "https://login.example.com/revoked.json"}}]),
        Setting(Access.DENYLISTS, meaning="what only a removed list revokes is allowed"),
    ] = {}
    """Lists by name."""
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
    """Transmitters of security events (Shared Signals 1.0, CAEP, RISC) by name."""


class Logout(Section):
    """What a logout token of an issuer ends."""

    clients: Annotated[Items[str], Setting(Access.REQUIRED)]
    """OAuth clients for which it may be: its aud, which is never that of access tokens."""
    revokes: Annotated[Word[LogoutScope], Setting(Access.UNKNOWN, meaning="other tokens stay valid after a logout")] = (
        LogoutScope.SESSION
    )
    """session: tokens with its sid, or without one those of its sub. subject: all tokens of its sub until then."""


class Receivers(Section):
    """The plain HTTP server for logout tokens and security events: their senders must reach it, clients need not."""

    listen: Annotated[str | None, Field(examples=["0.0.0.0:9193"]), Setting(Access.UNAFFECTED, restart=True)] = None
    """host:port; TLS is for something in front of it."""
