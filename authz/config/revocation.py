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
        Setting(Access.LOOSENED, risk="anyone who controls the network to this list takes entries out of it"),
    ] = False
    """Plain HTTP for its URL."""


class RevocationList(Section):
    """One list of entries in JSON, at a URL or in a file; an entry that is taken out of it is no longer revoked."""

    url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """URL of the list."""
    file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """File with the list, watched."""
    required: Annotated[
        bool, Setting(Access.UNKNOWN, meaning="without the list, tokens are allowed that it revokes")
    ] = True
    """Without the list, or one that is recent enough: readiness waits for it, and tokens get 503."""
    interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1s", "24h"))] = timedelta(minutes=1)
    """Time between refreshes of a URL, unless the answer says for how long it is fresh; then at most ten times it."""
    max_stale: Annotated[
        Duration,
        Setting(
            Access.LIMIT, bounds=("1s", "8760h"), meaning="while refreshes fail, newer revocations stay unknown longer"
        ),
    ] = timedelta(hours=1)
    """How long the last good list counts as recent while refreshes fail."""
    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "1m"))] = timedelta(seconds=10)
    """Bound of one whole exchange."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "512MiB"))] = 16 * 1024 * 1024
    """Largest list that is read."""
    ca_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """PEM file of the trusted authorities, in place of the system's."""
    client_cert_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of the client certificate and its chain (mutual TLS)."""
    client_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of its key, without a password."""
    bearer_token_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with a bearer token for fetches; read each time."""
    proxy: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """HTTP proxy for fetches."""
    insecure: InsecureList = InsecureList()
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


class Logout(Section):
    """What a logout token of an issuer ends."""

    clients: Annotated[Items[str], Setting(Access.REQUIRED)]
    """OAuth clients for which it may be: its aud, which is never that of access tokens."""
    revokes: Annotated[Word[LogoutScope], Setting(Access.UNKNOWN, meaning="other tokens stay valid after a logout")] = (
        LogoutScope.SESSION
    )
    """session: tokens with its sid, or without one those of its sub. subject: all tokens of its sub until then."""


class Receivers(Section):
    """The plain HTTP server for what issuers send: logout tokens. Other servers and Envoy reach it, never clients."""

    listen: Annotated[str | None, Field(examples=["0.0.0.0:9193"]), Setting(Access.UNAFFECTED, restart=True)] = None
    """host:port; TLS is for something in front of it."""
