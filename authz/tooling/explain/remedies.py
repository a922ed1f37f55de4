"""What to do about a denial, as far as the token shows its issuer and what is missing.

Rules of this file:
1. Of a token, only an `iss`, a `kid` and the names of claims are repeated.
2. A remedy names the setting, at the issuer or in the configuration. If it is a guess, it names the product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from authz.core.decision import Decision
from authz.core.reasons import Reason, Rejected
from authz.core.snapshot import Snapshot
from authz.core.steps import Step

_ENTRA: Final = ("login.microsoftonline.com", "sts.windows.net")


@dataclass(frozen=True, slots=True)
class _Denied:
    """A denial, and what the pipeline had read of the token before it: *text* as it was found, *members* unverified."""

    decision: Decision
    snapshot: Snapshot
    text: str = field(repr=False)
    members: Mapping[str, object] = field(repr=False)

    def has_text(self, name: str, start: str = "") -> bool:
        """Return whether the claim is a string that begins with *start*."""
        value = self.members.get(name)
        return isinstance(value, str) and value.startswith(start)


def find_remedies(decision: Decision, passed: Mapping[int, Any], snapshot: Snapshot) -> Iterator[str]:
    """Yield one remedy for *decision*, from the results of the steps that *passed*; none if it is not certain."""
    found_token, token = passed.get(Step.TOKEN), passed.get(Step.FORM)
    try:
        members = token.members if token is not None else {}
    except Rejected:
        members = {}
    denied = _Denied(decision, snapshot, found_token.text if found_token is not None else "", members)
    for remedy in _REMEDIES.get(decision.reason, ()):
        if (text := remedy(denied)) is not None:
            yield f"to do: {text}"
            return


def _find_no_issuer(denied: _Denied) -> str | None:
    if denied.members.get("iss") not in (None, "") or not denied.members:
        return None
    if denied.has_text("sub", "spiffe://"):
        return (
            "set jwt_issuer at the SPIRE server, which writes no iss without it; or configure the trust domain: "
            "issuers.NAME.issuer is spiffe://DOMAIN, and its keys are those of its bundle"
        )
    return "have the issuer write iss (a setting that is empty there?): without it there is no key to verify with"


def _find_opaque(denied: _Denied) -> str | None:
    if denied.text.startswith("ory_"):
        return (
            "an opaque token of Ory Hydra: have it asked (issuers.NAME.introspection, token_kind: token_use), "
            "or set strategies.access_token: jwt there (a client: access_token_strategy)"
        )
    dots = denied.text.count(".")
    if dots == 4:
        return "an encrypted token (JWE): have the issuer sign access tokens, and encrypt none"
    opaque = "an opaque token: have its issuer asked (issuers.NAME.introspection), or have it write JWTs"
    return opaque if dots < 2 else None


def _find_other_issuer(denied: _Denied) -> str | None:
    iss = denied.decision.trail.claimed_issuer or ""
    hosts = {_host(iss) for iss in denied.snapshot.issuers}
    if _host(iss) not in _ENTRA or hosts.isdisjoint(_ENTRA):
        return None
    if _host(iss) == "sts.windows.net" and "sts.windows.net" not in hosts:
        return (
            "a v1.0 token of Entra: set accessTokenAcceptedVersion to 2 in the API's manifest, "
            "or configure the issuer https://sts.windows.net/TENANT/ too"
        )
    return "a tenant of Entra that is not configured: if it is one of yours, add its id to issuers.NAME.tenants"


def _find_other_keys(denied: _Denied) -> str | None:
    if not denied.has_text("sub", "spiffe://"):
        return None
    return (
        "take the keys from SPIRE's bundle or OIDC discovery provider, and keep the server's KeyManager on disk: "
        "after a restart with keys in memory it signs before it publishes"
    )


def _find_key_for_something_else(denied: _Denied) -> str | None:
    if "use is not sig" not in denied.decision.detail and "jwt-svid" not in denied.decision.detail:
        return None
    return "the issuer signs with a key that it does not publish for signatures (use): have it publish use sig"


def _find_no_audience(denied: _Denied) -> str | None:
    members = denied.members
    if members.get("aud") not in (None, [], "", "account", ["account"]):
        return None
    if "token_use" in members:
        return "Cognito writes no aud into access tokens: set audience_claim: client_id, and list the app clients"
    if "realm_access" in members or members.get("typ") == "Bearer":
        return "Keycloak writes aud by an Audience mapper, or for users with a role of the service: add the mapper"
    if "client_id" in members and members.get("aud") == []:
        return "Ory Hydra writes the audience that a client has registered, and asks for by audience=..."
    return "have the client ask for your audience; if the provider never writes aud, set audience_claim"


def _find_unit(denied: _Denied) -> str | None:
    if "milliseconds?" not in denied.decision.detail:
        return None
    return "have the issuer write seconds since 1970, not milliseconds, microseconds or nanoseconds"


def _find_subject(denied: _Denied) -> str | None:
    if denied.decision.detail != "sub is not a string":
        return None
    return "have the issuer write sub as a string; or take sub out of required_claims, rules, headers and metadata"


def _find_overage(denied: _Denied) -> str | None:
    if "overage" not in denied.decision.detail:
        return None
    return "use app roles, or have the issuer write only groups that are assigned to the application"


def _find_absent_claim(denied: _Denied) -> str | None:
    if not denied.decision.detail.endswith(" is absent"):
        return None
    if "realm_access" in denied.members or denied.members.get("typ") != "Bearer":
        return None
    return "a lightweight token of Keycloak? Set Add to lightweight access token in the mapper of the claim"


def _find_level(denied: _Denied) -> str | None:
    if denied.decision.detail == "auth_time is absent":
        return "a token of a machine has no auth_time: a rule with max_age is for users; else have the issuer write it"
    if denied.decision.detail == "acr is not what the rule requires" and "acr" in denied.members:
        return (
            "if a login does not change it, the issuer cannot reach this acr: see that its login flow has that level "
            '(Keycloak: ACR to LoA mapping; acr is "0" after single sign-on, and max_age asks for a new login)'
        )
    return None


def _find_unsafe_value(denied: _Denied) -> str | None:
    if "characters" not in denied.decision.detail and "the separator" not in denied.decision.detail:
        return None
    return "set identity.unsafe_values: encode, and have the upstream decode %XX; or do not send this claim"


_Remedy = Callable[[_Denied], str | None]
_REMEDIES: Final[Mapping[Reason, tuple[_Remedy, ...]]] = {
    Reason.TOKEN_MALFORMED: (_find_opaque,),
    Reason.CLAIMS_MALFORMED: (_find_no_issuer, _find_unit, _find_subject),
    Reason.ISSUER_UNKNOWN: (_find_other_issuer,),
    Reason.KEYS_UNAVAILABLE: (_find_other_keys,),
    Reason.KEY_NOT_FOUND: (_find_other_keys,),
    Reason.KEY_UNUSABLE: (_find_other_keys, _find_key_for_something_else),
    Reason.AUDIENCE_MISMATCH: (_find_no_audience,),
    Reason.POLICY_DENIED: (_find_overage, _find_absent_claim),
    Reason.STEP_UP_REQUIRED: (_find_level,),
    Reason.HEADER_UNSAFE: (_find_unsafe_value,),
}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
