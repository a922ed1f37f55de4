"""Introspect tokens at each issuer with introspection once, by the code that serves, and say what that proves.

1. A token that was never issued proves the URL, the connection and the form of the response.
2. The same with a wrong secret proves whether the server checks our credentials at all. Dex does not.
3. A token of our own, if the server issues one by client_credentials, proves whether we may introspect. For Keycloak a
   token is inactive if the client is not in its audience, or if the host name is not that of `iss`: if the token is a
   JWT, it shows which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from authz.config.introspection import IntrospectionKind
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.core import base64url
from authz.core.introspection import Introspection, IntrospectionMode, IntrospectionResponse, introspection_need
from authz.core.strictjson import parse_object
from authz.facts.source import Fact, SourceError
from authz.feeds.build_feed import make_dialer, make_fetcher
from authz.feeds.discovery import discovery_url, read_url
from authz.feeds.fact_lanes import make_auth, make_introspection, make_poster
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import ClientAuth, ClientSecretBasic
from authz.feeds.http.connect import resolve
from authz.feeds.http.post import Post
from authz.feeds.issuer_client import make_issuer_endpoint
from authz.telemetry.redaction import printable

_JWT_PARTS: Final = 3
_NEVER_ISSUED: Final = "authz-check-config-asks-whether-this-is-answered"


@dataclass(frozen=True, slots=True)
class ProbedIntrospection:
    """The result of asking one issuer: *ok* if it answers us; *findings* are sentences."""

    issuer: str
    ok: bool
    findings: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"{self.issuer}: introspection {'answers' if self.ok else 'fails'}"
        yield from (f"  {'proved' if self.ok else 'failed'}        {printable(finding)}" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"issuer": self.issuer, "ok": self.ok, "findings": list(self.findings)}


def probe_introspection(config: Config) -> list[ProbedIntrospection]:
    """Probe every issuer that is asked about tokens."""
    return [probe_issuer(name, issuer) for name, issuer in config.issuers.items() if issuer.introspection is not None]


def probe_issuer(name: str, issuer: Issuer) -> ProbedIntrospection:
    """Probe one issuer."""
    try:
        fact = _ask(issuer, _NEVER_ISSUED)
    except SourceError as error:
        return ProbedIntrospection(name, ok=False, findings=(f"{error.result}: {error}",))
    if fact.result == "active":
        return ProbedIntrospection(
            name, ok=False, findings=("a token that was never issued is called active: this proves nothing",)
        )
    findings = ["a token that was never issued is called inactive"]
    if issuer.introspection is not None and issuer.introspection.kind is IntrospectionKind.TOKEN_REVIEW:
        findings.append("our account may ask the API server about tokens (tokenreviews)")
        return ProbedIntrospection(name, ok=True, findings=tuple(findings))
    try:
        findings += _try_wrong_secret(issuer)
        ok, own = _ask_about_own(issuer)
        findings.append(own)
    except RefreshError as error:
        findings.append(f"no more could be tried: {error}")
        return ProbedIntrospection(name, ok=True, findings=tuple(findings))
    return ProbedIntrospection(name, ok=ok, findings=tuple(findings) if ok else (own,))


def _ask(issuer: Issuer, token: str, auth: ClientAuth | None = None) -> Fact:
    source = make_introspection(issuer, auth=auth)
    try:
        return source(introspection_need(token, "", Introspection(client="", source="")))
    finally:
        source.close()


def _try_wrong_secret(issuer: Issuer) -> Iterator[str]:
    """Ask with a wrong secret."""
    section = issuer.introspection
    if section is None or section.client.secret_file is None:
        yield "whether our credentials are looked at cannot be tried with this kind of proof"
        return
    credentials = ClientSecretBasic(section.client.id or "", "wrong on purpose")
    try:
        _ask(issuer, _NEVER_ISSUED, credentials)
    except SourceError as error:
        yield f"a wrong secret is refused ({error.result}), so ours is right"
    else:
        yield "a wrong secret is answered too: the server does not look at it, and ours is not proved right"


def _ask_about_own(issuer: Issuer) -> tuple[bool, str]:
    """Get a token for ourselves, and ask about it; return whether others' can be active, and the finding.

    Raises RefreshError.
    """
    token = _get_token(issuer)
    if token is None:
        return True, "whether we may ask about tokens was not tried: the server gives our client none"
    try:
        fact = _ask(issuer, token)
    except SourceError as error:
        return True, f"a token of our own cannot be asked about: {error}"
    if fact.result == "active":
        problem = (
            ", ".join(sorted(fact.value.members))
            if isinstance(fact.value, IntrospectionResponse)
            else "a signed answer"
        )
        return True, f"a token of our own is called active, with {problem}"
    certain, why = _explain_inactive(issuer, token)
    return not certain, f"a token of our own is called {fact.result}: {why}"


def _explain_inactive(issuer: Issuer, token: str) -> tuple[bool, str]:
    """Return whether all tokens must be inactive like ours, and why it is. Raises RefreshError.

    Where only opaque tokens are asked about, a JWT of ours proves nothing about them.
    """
    section = issuer.introspection
    claims = _read_claims(token)
    if section is None or claims is None:
        return False, "our client may not ask about it"
    aud = claims.get("aud")
    audiences = aud if isinstance(aud, list) else [aud]
    if section.client.id is not None and section.client.id not in audiences:
        shown = ", ".join(str(audience) for audience in audiences if audience) or "absent"
        return False, (
            f"its aud is {shown}, and does not name our client {section.client.id}. To Keycloak's clients each token "
            "is inactive that does not name them: add an Audience mapper"
        )
    url = make_issuer_endpoint(issuer, section.url, resolve=resolve).locate()
    our_host, their_host = urlsplit(url).netloc, urlsplit(str(claims.get("iss"))).netloc
    if our_host != their_host:
        return section.mode is IntrospectionMode.ALWAYS, (
            f"it was asked about at {our_host}, and its iss is at {their_host}. For Keycloak each token is inactive "
            "that has another host name"
        )
    return False, "the server may take no JWTs"


def _read_claims(token: str) -> dict[str, object] | None:
    """Return the claims of a JWT, not verified: they only explain. None if it is no JWT."""
    parts = token.split(".")
    try:
        return parse_object(base64url.decode(parts[1].encode())) if len(parts) == _JWT_PARTS else None
    except ValueError:
        return None


def _get_token(issuer: Issuer) -> str | None:
    """Return an access token for our own client, None if there is none. Raises RefreshError."""
    url = _find_token_endpoint(issuer)
    if url is None:
        return None
    credentials = make_auth(issuer).credentials()
    audience = {"resource": issuer.audiences[0]} if "://" in "".join(issuer.audiences[:1]) else {}
    body = urlencode({"grant_type": "client_credentials", **audience, **credentials.fields}).encode("ascii")
    headers = {"content-type": "application/x-www-form-urlencoded", **credentials.headers}
    poster = make_poster(issuer)
    try:
        response = poster.post(url, lambda: Post(body, headers))
    finally:
        poster.close()
    try:
        token = parse_object(response.body).get("access_token") if response.status == 200 else None
    except ValueError:
        return None
    return token if isinstance(token, str) and token.isascii() else None


def _find_token_endpoint(issuer: Issuer) -> str | None:
    """Return the token endpoint in the issuer's discovery document, or None. Raises RefreshError."""
    if issuer.key_sources not in ((), ("discovery_url",)):
        return None
    url = issuer.discovery_url or discovery_url(issuer.discovery_base)
    document = make_fetcher(issuer, make_dialer(issuer)).get(url, {}).body
    try:
        return read_url("token_endpoint", document, issuer=issuer.issuer)
    except ValueError:
        return None
