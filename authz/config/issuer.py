"""One trusted issuer: the requirements for its tokens, and the source of its keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final

from authz.config.declaring import ConfigDict, Field
from authz.config.introspection import Introspection
from authz.config.outbound import BearerTokenFile, CaFile, ClientCertFile, ClientKeyFile, FetchTimeout, Proxy
from authz.config.revocation import Logout
from authz.config.section import Access, Choice, Duration, Items, Section, Setting, Size
from authz.config.status_list import StatusList
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.core.dpop import Possession
from authz.core.keys import MAX_KEYS

# RFC 8037 appendix A.2, with a key id.
_EXAMPLE_KEY: Final = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "2026-01",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


TENANT: Final = "{tenantid}"  # as in the discovery document of Entra's common endpoint


class Fetch(Section):
    """How keys are fetched."""

    timeout: FetchTimeout = timedelta(seconds=5)
    interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "168h"))] = timedelta(minutes=10)
    """Refresh interval, unless the answer has a lifetime."""
    min_interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "168h"))] = timedelta(minutes=1)
    """Bounds of interval."""
    max_interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "168h"))] = timedelta(hours=1)
    """Bounds of interval."""
    cooldown: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "1h"))] = timedelta(seconds=15)
    """Time between searches for unknown key ids."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest wait for an unknown key id."""
    max_stale: Annotated[
        Duration,
        Setting(
            Access.LIMIT, bounds=("1ms", "8760h"), meaning="while the issuer is down, its last keys stay in use longer"
        ),
    ] = timedelta(hours=24)
    """How long keys serve if refreshes fail; then 503."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "16MiB"))] = 256 * 1024
    """Size of an answer."""
    max_keys: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "10000"))] = MAX_KEYS
    """Usable keys of a set; others are ignored."""
    allowed_hosts: Annotated[Items[str], Field(examples=[["keys.example.com"]]), Setting(Access.LISTED)] = ()
    """More hosts for discovery, or host:port."""
    allowed_networks: Annotated[Items[str], Field(examples=[["10.20.0.0/16"]]), Setting(Access.LISTED)] = ()
    """Private networks for these hosts; link-local ones for every host."""
    proxy: Proxy = None
    proxy_credentials_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Its `user:password`."""
    ca_file: CaFile = None
    client_cert_file: ClientCertFile = None
    client_key_file: ClientKeyFile = None
    bearer_token_file: BearerTokenFile = None


class InlineKeys(Section):
    """A JSON Web Key Set (RFC 7517)."""

    # RFC 7517 section 5: members of a key set that are not understood are ignored.
    model_config = ConfigDict(extra="ignore")

    keys: Annotated[Items[Mapping[str, object]], Field(examples=[[_EXAMPLE_KEY]])]
    """Public keys (JWK Set)."""


class InsecureIssuer(Section):
    """Weakens its checks."""

    http: Annotated[
        bool, Setting(Access.LOOSENED, risk="anyone who controls the network to this issuer controls its keys")
    ] = False
    """Plain HTTP for its keys."""
    any_audience: Annotated[bool, Setting(Access.LOOSENED, risk="tokens for any other service are accepted")] = False
    """Accept tokens for other services."""
    no_expiry: Annotated[bool, Setting(Access.LOOSENED, risk="a token without exp never expires")] = False
    """Accept tokens without exp."""
    x5c_mismatch: Annotated[
        bool, Setting(Access.LOOSENED, risk="keys are used although their certificates hold other keys")
    ] = False
    """Accept keys whose x5c holds another."""
    dpop_without_ath: Annotated[
        bool, Setting(Access.LOOSENED, risk="a proof serves with every token of its key, for clients that send no ath")
    ] = False
    """Accept proofs without ath (Solid)."""


class Issuer(Section):
    """A trusted issuer."""

    issuer: Annotated[str, Setting(Access.UNAFFECTED)]
    """The iss, byte for byte; base of discovery. spiffe://DOMAIN: JWT-SVIDs."""
    tenants: Annotated[
        Items[str], Field(examples=[["11111111-1111-4111-8111-111111111111"]]), Setting(Access.UNAFFECTED)
    ] = ()  # each one is compared as a separate issuer
    """Accepted tenants, if issuer has {tenantid}."""
    audiences: Annotated[Items[str], Setting(Access.LISTED)] = ()
    """Accepted audiences; required unless insecure.any_audience."""
    audience_claim: Annotated[str, Setting(Access.UNKNOWN, meaning="another claim contains the audience")] = "aud"
    """Claim with the audience."""
    discovery_url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """Discovery document, if elsewhere."""
    jwks_uri: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """Key set, without discovery."""
    jwks_uris: Annotated[
        Items[str],
        Field(examples=[["https://a.example.com/keys", "https://b.example.com/keys"]]),
        Setting(Access.UNKNOWN),
    ] = ()
    """Key sets, used together."""
    jwks: Annotated[InlineKeys | None, Setting(Access.KEYS)] = None
    """Public keys (JWK Set)."""
    jwks_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """Key set, watched; the only place for symmetric keys."""
    algorithms: Annotated[Items[str], Setting(Access.LISTED)] = DEFAULT_ALGORITHMS
    """Also possible: HS256, HS384, HS512, ES256K, Ed448, ML-DSA-44, -65, -87."""
    token_types: Annotated[Items[str], Setting(Access.TYPES)] = ("JWT", "at+jwt")
    """Accepted typ; absent is JWT."""
    required_claims: Annotated[Items[str], Setting(Access.REQUIRED)] = ("exp", "sub")
    """Claims that every token must have."""
    leeway: Annotated[Duration, Setting(Access.LIMIT, bounds=("0s", "1h"))] = timedelta(seconds=30)
    """Clock tolerance (exp, nbf, iat)."""
    max_lifetime: Annotated[Duration | None, Setting(Access.LIMIT, bounds=("1s", "87600h"))] = None
    """Longest time from iat to exp; requires iat."""
    claims: Annotated[
        Mapping[str, str],
        Field(examples=[{"roles": "realm_access.roles"}]),
        Setting(Access.UNKNOWN, meaning="names in rules and headers refer to other claims"),
    ] = {}
    """Short names for claim paths."""
    blocked_keys: Annotated[Items[str], Field(examples=[["2026-01-leaked"]]), Setting(Access.REQUIRED)] = ()
    """Refused keys: key ids or RFC 7638 thumbprints."""
    required: Annotated[bool, Setting(Access.UNAFFECTED)] = True
    """Readiness waits for its keys."""
    fetch: Fetch = Fetch()
    """How keys are fetched."""
    introspection: Annotated[
        Introspection | None,
        Field(examples=[{"client": {"id": "orders-gateway", "secret_file": "/etc/authz/introspection-secret"}}]),
        Setting(envoy=True),
    ] = None
    """Ask the issuer about tokens."""
    logout: Annotated[Logout | None, Field(examples=[{"clients": ["orders-web"]}])] = None
    """Accepts logout tokens at receivers.listen."""
    status_list: Annotated[
        StatusList | None,
        Field(examples=[{"uris": ["https://status.example.com/lists/"]}]),
        Setting(envoy=True),
    ] = None
    """Status lists that tokens name."""
    cache_dir: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Directory that keeps keys over a restart."""
    dpop: Annotated[
        Choice[Possession], Setting(Access.UNKNOWN, meaning="tokens are bound to a key, or need not be")
    ] = Possession.OFF
    """Tokens bound to a key (RFC 9449)."""
    insecure: InsecureIssuer = InsecureIssuer()
    """Weakens its checks."""

    @property
    def algorithms_configured(self) -> bool:
        """Whether the operator chose the algorithms, instead of the default."""
        return "algorithms" in self.model_fields_set

    @property
    def accepted_issuers(self) -> tuple[str, ...]:
        """Every value of iss that this section accepts: one, or one for each of its tenants."""
        if not self.tenants:
            return (self.issuer,)
        return tuple(self.issuer.replace(TENANT, tenant) for tenant in self.tenants)

    @property
    def discovery_base(self) -> str:
        """The URL below which discovery starts; with tenants, Entra's endpoint for all tenants."""
        return self.issuer.replace(TENANT, "common") if self.tenants else self.issuer

    @property
    def key_sources(self) -> tuple[str, ...]:
        """The settings of this section for the source of keys; none means discovery below the issuer."""
        sources = ("discovery_url", "jwks_uri", "jwks_uris", "jwks", "jwks_file")
        return tuple(source for source in sources if getattr(self, source) not in (None, ()))
