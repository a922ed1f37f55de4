"""The whole configuration file as one frozen value; attribute names are the keys of the file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Annotated, ClassVar

from authz.config.clients import Clients, Throttle
from authz.config.declaring import Field, field_validator, model_validator
from authz.config.dpop import Dpop
from authz.config.exchange import Exchange
from authz.config.issuer import Issuer
from authz.config.pdp import Pdp
from authz.config.revocation import Receivers, Revocation
from authz.config.risk import Risk
from authz.config.rules import Rule
from authz.config.section import Access, Choice, Duration, Items, OrClaim, Section, Setting, Size
from authz.config.shared_state import SharedState
from authz.config.signing import Signing
from authz.config.telemetry import Telemetry
from authz.config.upstream_token import UpstreamToken
from authz.core.identity import Format, UnsafeValues
from authz.core.minting import TokenFormat
from authz.core.snapshot import BodyFormat, Unavailable


class TransportName(StrEnum):
    """The transport for gRPC calls."""

    AUTO = "auto"
    CYGRPC = "cygrpc"
    POOL = "pool"


class Tls(Section):
    """TLS for a TCP listener."""

    cert_file: Annotated[str, Setting(Access.UNAFFECTED)]
    """Certificate chain (PEM)."""
    key_file: Annotated[str, Setting(Access.UNAFFECTED)]
    """Its private key (PEM)."""
    client_ca_file: Annotated[str | None, Setting(Access.UNKNOWN, meaning="which client certificates are accepted")] = (
        None
    )
    """CAs of client certificates (PEM); required beyond loopback."""


class Server(Section):
    """gRPC server for Envoy."""

    listen: Annotated[str, Setting(Access.UNAFFECTED, envoy=True)] = "unix:/run/authz/authz.sock"
    """unix:/path (fastest) or host:port."""
    socket_mode: Annotated[str, Setting(Access.UNAFFECTED)] = "0660"
    """Permissions of the socket."""
    tls: Annotated[Tls | None, Setting(envoy=True)] = None
    """TLS for a TCP listener."""
    workers: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "64"), envoy=True)] = 1
    """Processes, each with a socket (authz-0.sock ...) or port (N, N+1 ...)."""
    max_concurrent: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "100000"), envoy=True)] = 256
    """Requests in flight; more get 503."""
    transport: Annotated[Choice[TransportName], Setting(Access.UNAFFECTED)] = TransportName.AUTO
    """auto: cygrpc if its self-test passes, else pool."""
    drain: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "10m"))] = timedelta(seconds=10)
    """Time for requests at shutdown."""


class Console(Section):
    """The console on the admin port."""

    enabled: Annotated[bool, Setting(Access.UNAFFECTED)] = True
    """Console, `authz tail`, `authz explain --live`."""
    read_only: Annotated[bool, Setting(Access.UNAFFECTED)] = True
    """No button that fetches keys."""
    token_file: Annotated[
        str | None,
        Setting(
            Access.UNAFFECTED,
            risk="anyone who has the token sees decisions; it is sent unencrypted unless something in front adds TLS",
        ),
    ] = None
    """Required token; admits clients from anywhere."""


class Admin(Section):
    """HTTP: health, metrics, console."""

    listen: Annotated[str, Setting(Access.UNAFFECTED)] = "127.0.0.1:9192"
    """host:port."""
    console: Console = Console()
    """The console on the admin port."""


class TokenSource(Section):
    """A header or a cookie that may hold a token."""

    header: str | None = None
    """Header, in lower case."""
    scheme: str = ""
    """Word before the token; default: Bearer in authorization, else none."""
    cookie: str | None = None
    """Unsafe methods then need a same-origin Sec-Fetch-Site or Origin."""

    @model_validator(mode="before")
    @classmethod
    def _default_scheme(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("header") == "authorization" and "scheme" not in data:
            return {**data, "scheme": "Bearer"}
        return data


class Token(Section):
    """Places of tokens."""

    sources: Annotated[Items[TokenSource], Setting(Access.LISTED, envoy=True)] = (
        TokenSource(header="authorization", scheme="Bearer"),
    )
    """Places of tokens; tokens in two get 400."""
    max_bytes: Annotated[Size, Setting(Access.LIMIT, bounds=("1KiB", "1MiB"), envoy=True)] = 16 * 1024
    """Largest token."""
    forward: Annotated[bool | None, Field(examples=[False]), Setting(Access.UNAFFECTED, envoy=True)] = None
    """Send it upstream; default: false with a transaction token."""


class Paths(Section):
    """How all rules compare paths."""

    # Access: rules are compared after this setting is applied.
    case_insensitive: Annotated[bool, Setting(Access.UNAFFECTED)] = False
    """Ignore letter case."""


class HeaderValue(OrClaim):
    """One value. A plain string is a claim."""

    example: ClassVar[str] = "{claim: org, format: json}"

    claim: str | None = None
    """Claim path, or a name of the issuer's claims."""
    join: str | None = None
    """Separator for a list."""
    format: Choice[Format] = Format.TEXT
    """text: a scalar; json, base64url: any type."""
    payload: Choice[Format] | None = None
    """The whole payload."""
    value: str | None = None
    """Fixed value."""


class Identity(Section):
    """What upstream and Envoy learn about the caller."""

    headers: Annotated[
        Mapping[str, HeaderValue],
        Setting(
            Access.HEADERS,
            meaning="a header that is no longer listed reaches the upstream as the client sent it",
            envoy=True,
        ),
    ] = {}
    """Headers for the upstream, always overwritten or removed; a text is a claim."""
    metadata: Annotated[Items[str], Setting(Access.UNAFFECTED)] = ("sub", "iss")
    """Claims in Envoy's dynamic metadata, below `claims`."""
    unsafe_values: Annotated[Choice[UnsafeValues], Setting(Access.LOOSENED, loose="encode")] = UnsafeValues.DENY
    """Values that are not printable ASCII: 403, or percent-encoded."""
    token: UpstreamToken | None = None
    """A token for the upstream."""

    @property
    def minted(self) -> UpstreamToken | None:
        """The token for the upstream if the sidecar signs it itself."""
        return self.token if self.token is not None and self.token.exchange is None else None

    @property
    def exchange(self) -> Exchange | None:
        """How an issuer is asked for the token for the upstream, if it is."""
        return self.token.exchange if self.token is not None else None


class Responses(Section):
    """Answers to denied clients."""

    realm: Annotated[str, Setting(Access.UNAFFECTED)] = "api"
    """Realm of challenges."""
    body: Annotated[Choice[BodyFormat], Setting(Access.UNAFFECTED)] = BodyFormat.PROBLEM_JSON
    """RFC 9457; gRPC callers get text."""
    expose_reason: Annotated[
        bool, Setting(Access.UNAFFECTED, risk="clients learn why they were denied, which helps an attacker too")
    ] = False
    """Send clients the reason."""
    unavailable: Annotated[
        Choice[Unavailable],
        Setting(
            Access.LOOSENED, loose="error", meaning="while keys are unavailable, Envoy's failure_mode_allow decides"
        ),
    ] = Unavailable.DENY
    """Without keys: 503; error: Envoy's failure_mode_allow decides."""


class Resource(Section):
    """Protected resource metadata (RFC 9728)."""

    identifier: str
    """https URL for metadata (RFC 9728)."""
    scopes: Items[str] = ()
    """Announced scopes."""


class Insecure(Section):
    """Weakens the whole sidecar."""

    shadow_all: Annotated[bool, Setting(Access.LOOSENED, risk="every request is allowed, whatever the decision")] = (
        False
    )
    """Report decisions, allow all."""
    plaintext: Annotated[
        bool,
        Setting(Access.LOOSENED, risk="callers on the network need no certificate, and their traffic is not encrypted"),
    ] = False
    """Listen beyond loopback without client certificates."""
    query_token: Annotated[
        str | None,
        Setting(Access.LOOSENED, risk="tokens in a query end up in logs and histories (RFC 6750 section 5.3)"),
    ] = None
    """Query parameter with a token."""
    trust_client_traceparent: Annotated[
        bool, Setting(Access.LOOSENED, risk="clients choose the trace ids and the sampling")
    ] = False
    """Client's traceparent is the parent."""
    dpop_without_shared_state: Annotated[
        bool,
        Setting(
            Access.LOOSENED,
            risk="while the shared state does not answer, a proof (DPoP) can be used once at every worker and replica",
            restart=True,
        ),
    ] = False
    """If it is down, each process remembers proofs."""


class Config(Section):
    """The configuration file."""

    computed: ClassVar[tuple[str, ...]] = ("digest",)

    version: Annotated[int, Field(json_schema_extra={"const": 1}), Setting(Access.UNAFFECTED)]
    """Format version."""
    server: Annotated[Server, Setting(restart=True)] = Server()
    """gRPC server for Envoy."""
    admin: Annotated[Admin, Setting(restart=True)] = Admin()
    """HTTP: health, metrics, console."""
    issuers: Annotated[Mapping[str, Issuer], Field(json_schema_extra={"minProperties": 1})]
    """Trusted issuers."""
    token: Token = Token()
    """Places of tokens."""
    dpop: Dpop = Dpop()
    """Proofs of possession (DPoP, RFC 9449)."""
    clients: Clients = Clients()
    """Networks, for throttle and require.risk."""
    throttle: Annotated[Throttle | None, Field(examples=[{"failures": 20, "window": "1m"}])] = None
    """429 for networks with many bad tokens."""
    risk: Annotated[
        Risk | None, Field(examples=[{"url": "https://risk.example.com/v1/assess"}]), Setting(envoy=True)
    ] = None
    """Engine for `risk.level` and `risk.score`."""
    revocation: Revocation = Revocation()
    """Revoked tokens."""
    receivers: Receivers = Receivers()
    """Receives logout tokens and security events."""
    shared_state: Annotated[
        SharedState | None,
        Field(examples=[{"url": "rediss://valkey.example.com:6379/0"}]),
        Setting(envoy=True, restart=True),
    ] = None
    """Valkey or Redis (extra `[shared]`) of all replicas; no cluster, no eviction."""
    paths: Paths = Paths()
    """How all rules compare paths."""
    pdps: Annotated[
        Mapping[str, Pdp],
        Field(examples=[{"policies": {"url": "https://pdp.internal/access/v1/evaluation"}}]),
        Setting(envoy=True),
    ] = {}
    """Policy decision points."""
    rules: Annotated[Items[Rule], Field(json_schema_extra={"minItems": 1})]
    """The first match decides; no match denies."""
    identity: Identity = Identity()
    """What upstream and Envoy learn about the caller."""
    signing: Signing = Signing()
    """The sidecar's own keys."""
    responses: Responses = Responses()
    """Answers to denied clients."""
    resource: Annotated[Resource | None, Setting(Access.DOCUMENT)] = None
    """Protected resource metadata (RFC 9728)."""
    telemetry: Telemetry = Telemetry()
    """Traces, metrics and logs."""
    insecure: Insecure = Insecure()
    """Weakens the whole sidecar."""

    @cached_property
    def claim_aliases(self) -> frozenset[str]:
        """The names for claim paths that any issuer defines."""
        return frozenset(name for issuer in self.issuers.values() for name in issuer.claims)

    @property
    def forwards_token(self) -> bool:
        """Whether the caller's token goes upstream too: by default, unless a transaction token is in its place."""
        if self.token.forward is not None:
            return self.token.forward
        own_token = self.identity.minted
        return own_token is None or own_token.format is not TokenFormat.TRANSACTION

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all values, in hexadecimal."""
        return sha256(self.model_dump_json().encode()).hexdigest()

    @field_validator("rules", mode="before")
    @classmethod
    def _name_rules(cls, rules: object) -> object:
        if not isinstance(rules, list):
            return rules
        return [
            {"name": f"rule-{number}", **rule} if isinstance(rule, dict) else rule
            for number, rule in enumerate(rules, 1)
        ]
