"""One trusted issuer of tokens: what its tokens must look like, and where its keys come from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Final

from pydantic import ConfigDict, Field

from authz.config.introspection import Introspection
from authz.config.section import Access, Duration, Items, Section, Setting, Size
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.core.keys import MAX_KEYS

# RFC 8037 appendix A.2, with a key id.
_EXAMPLE_KEY: Final = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "2026-01",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


TENANT: Final = "{tenantid}"  # as the discovery document of Entra's common endpoint writes it


class Fetch(Section):
    """How one issuer's keys are fetched and kept fresh."""

    timeout: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "1m"))] = timedelta(seconds=5)
    """Bound of one whole exchange, name resolution and headers included."""
    interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "168h"))] = timedelta(minutes=10)
    """Time between refreshes where the answer does not say for how long it is fresh; no-cache and no-store do not."""
    min_interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "168h"))] = timedelta(minutes=1)
    """Shortest time between refreshes, whatever the answer says."""
    max_interval: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "168h"))] = timedelta(hours=1)
    """Longest time between refreshes, whatever the answer says."""
    cooldown: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("1ms", "1h"))] = timedelta(seconds=15)
    """Time after which unknown key ids may ask for one more refresh; four may come at once."""
    max_wait: Annotated[Duration, Setting(Access.UNAFFECTED, bounds=("0s", "10s"), envoy=True)] = timedelta(seconds=1)
    """Longest time that a request waits for a refresh that an unknown key id asked for."""
    max_stale: Annotated[
        Duration,
        Setting(Access.LIMIT, bounds=("1ms", "8760h"), meaning="withdrawn keys serve so long while the issuer is down"),
    ] = timedelta(hours=24)
    """Longest time that the last good keys serve while the issuer cannot be reached."""
    max_bytes: Annotated[Size, Setting(Access.UNAFFECTED, bounds=("1KiB", "16MiB"))] = 256 * 1024
    """Largest answer that is read."""
    max_keys: Annotated[int, Setting(Access.UNAFFECTED, bounds=("1", "10000"))] = MAX_KEYS
    """Largest number of usable keys that are kept of one key set; those beyond are rejected."""
    allowed_hosts: Annotated[Items[str], Field(examples=[["keys.example.com"]]), Setting(Access.LISTED)] = ()
    """Hosts, or host:port for one port only, that discovery may name in jwks_uri beside those written in this file."""
    allowed_networks: Annotated[Items[str], Field(examples=[["10.20.0.0/16"]]), Setting(Access.LISTED)] = ()
    """Private networks (CIDR) in which hosts learned from discovery may be, and link-local ones for every host."""
    proxy: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """URL of the HTTP proxy that fetches go through."""
    proxy_credentials_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with `user:password` for the proxy (Basic authentication); read each time."""
    ca_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """PEM file of the certificate authorities that are trusted for this issuer, in place of the system's."""
    client_cert_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of the certificate, with its chain, that is shown to the issuer (mutual TLS)."""
    client_key_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """PEM file of its private key, without a password."""
    bearer_token_file: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """File with a bearer token that is sent with every fetch; read each time."""


class InlineKeys(Section):
    """A JSON Web Key Set (RFC 7517) of public keys, written in this file."""

    # RFC 7517 section 5: members of a key set that are not understood are ignored.
    model_config = ConfigDict(extra="ignore")

    keys: Annotated[Items[Mapping[str, object]], Field(examples=[[_EXAMPLE_KEY]])]
    """The keys."""


class InsecureIssuer(Section):
    """Options that weaken the checks of one issuer; each warns at start and shows in a metric."""

    http: Annotated[
        bool, Setting(Access.LOOSENED, risk="anyone who controls the network to this issuer controls its keys")
    ] = False
    """Allow plain HTTP for the issuer's URLs: anyone who controls the network controls the keys."""
    any_audience: Annotated[bool, Setting(Access.LOOSENED, risk="tokens for any other service open this one")] = False
    """Accept tokens that were issued for other services."""
    no_expiry: Annotated[bool, Setting(Access.LOOSENED, risk="a token without exp never expires")] = False
    """Accept tokens that have no exp."""
    x5c_mismatch: Annotated[
        bool, Setting(Access.LOOSENED, risk="a key serves although its certificate says that it is another's")
    ] = False
    """Use keys although the certificate beside them (x5c) holds another key."""


class Issuer(Section):
    """One trusted issuer, known in rules, metrics and logs by the name of its entry."""

    issuer: Annotated[str, Setting(Access.UNAFFECTED)]
    """The value of iss, compared byte for byte; discovery starts below it unless another source of keys is given."""
    tenants: Annotated[
        Items[str], Field(examples=[["11111111-1111-4111-8111-111111111111"]]), Setting(Access.UNAFFECTED)
    ] = ()  # each is compared as an issuer of its own
    """Tenants that are accepted, for an issuer with {tenantid} in it: one iss each, one name and one source of keys."""
    audiences: Annotated[Items[str], Setting(Access.LISTED)] = ()
    """Audiences of which a token must name at least one; required unless insecure.any_audience."""
    audience_claim: Annotated[str, Setting(Access.UNKNOWN, meaning="another claim says whom a token is for")] = "aud"
    """The claim that holds the audience, for providers whose access tokens have no aud."""
    discovery_url: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """URL of the OpenID Connect discovery document, where it does not lie below the issuer."""
    jwks_uri: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """URL of the key set; no discovery takes place."""
    jwks_uris: Annotated[
        Items[str],
        Field(examples=[["https://a.example.com/keys", "https://b.example.com/keys"]]),
        Setting(Access.UNKNOWN),
    ] = ()
    """URLs of several key sets, the union of which counts; one that fails takes none of the others' keys away."""
    jwks: Annotated[InlineKeys | None, Setting(Access.KEYS)] = None
    """Public keys written in this file; nothing is fetched."""
    jwks_file: Annotated[str | None, Setting(Access.UNKNOWN)] = None
    """File with the key set, watched; relative to the working directory. Symmetric keys are accepted only here."""
    algorithms: Annotated[Items[str], Setting(Access.LISTED)] = DEFAULT_ALGORITHMS
    """Signature algorithms that tokens may use; on request HS256, HS384, HS512, ES256K, Ed448, ML-DSA-44, -65, -87."""
    token_types: Annotated[Items[str], Setting(Access.TYPES)] = ("JWT", "at+jwt")
    """Accepted values of typ, case-insensitive, without application/; an absent typ counts as JWT."""
    required_claims: Annotated[Items[str], Setting(Access.REQUIRED)] = ("exp", "sub")
    """Claims that every token must have."""
    leeway: Annotated[Duration, Setting(Access.LIMIT, bounds=("0s", "1h"))] = timedelta(seconds=30)
    """Tolerance for clocks that differ, for exp, nbf and iat."""
    max_lifetime: Annotated[Duration | None, Setting(Access.LIMIT, bounds=("1s", "87600h"))] = None
    """Longest time from iat to exp; when set, iat is required."""
    claims: Annotated[
        Mapping[str, str],
        Field(examples=[{"roles": "realm_access.roles"}]),
        Setting(Access.UNKNOWN, meaning="names of rules and headers stand for other claims"),
    ] = {}
    """Names that rules and headers may use in place of this issuer's own claim paths."""
    blocked_keys: Annotated[Items[str], Field(examples=[["2026-01-leaked"]]), Setting(Access.REQUIRED)] = ()
    """Key ids or RFC 7638 thumbprints that are refused, whatever the issuer publishes."""
    required: Annotated[bool, Setting(Access.UNAFFECTED)] = True
    """Readiness waits for this issuer's first keys."""
    fetch: Fetch = Fetch()
    """How its keys are fetched and kept fresh."""
    introspection: Annotated[
        Introspection | None,
        Field(examples=[{"client": {"id": "orders-gateway", "secret_file": "/etc/authz/introspection-secret"}}]),
        Setting(envoy=True),
    ] = None
    """How it is asked about tokens; without it opaque tokens are refused."""
    cache_dir: Annotated[str | None, Setting(Access.UNAFFECTED)] = None
    """Directory in which the last good keys survive a restart."""
    insecure: InsecureIssuer = InsecureIssuer()
    """Options that weaken the checks of this issuer."""

    @property
    def algorithms_written(self) -> bool:
        """Whether the file names the algorithms: the default list is not a choice of the operator."""
        return "algorithms" in self.model_fields_set

    @property
    def accepted_issuers(self) -> tuple[str, ...]:
        """Every value of iss that this section accepts: one, or one for each of its tenants."""
        if not self.tenants:
            return (self.issuer,)
        return tuple(self.issuer.replace(TENANT, tenant) for tenant in self.tenants)

    @property
    def discovery_base(self) -> str:
        """Where discovery starts: for a template at the endpoint that Entra has for all tenants."""
        return self.issuer.replace(TENANT, "common") if self.tenants else self.issuer

    @property
    def key_sources(self) -> tuple[str, ...]:
        """The keys of this section that say where the signing keys come from; none means discovery below the issuer."""
        sources = ("discovery_url", "jwks_uri", "jwks_uris", "jwks", "jwks_file")
        return tuple(source for source in sources if getattr(self, source) not in (None, ()))
