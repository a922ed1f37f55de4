"""Ask each issuer that is asked about tokens once, by the code that serves, and say what that proves.

1. About a token that was never issued: the URL, the connection and the form of the answer.
2. The same with a secret that is wrong: whether the server looks at our credentials at all. Dex does not.
3. About a token of our own, if the server gives us one by client_credentials: whether we may ask about tokens. Keycloak
   calls a token inactive to a client that is not in its audience, and under another host name than `iss`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from authz.config.introspection import IntrospectionKind
from authz.config.issuer import Issuer
from authz.config.model import Config
from authz.core.introspection import Introspection, IntrospectionResponse, introspection_need
from authz.core.strictjson import parse_object
from authz.facts.source import Fact, SourceError
from authz.feeds.build_feed import make_dialer, make_fetcher
from authz.feeds.discovery import discovery_url, read_url
from authz.feeds.fact_lanes import make_auth, make_introspection, make_poster
from authz.feeds.failure import RefreshError
from authz.feeds.http.client_auth import ClientAuth, SecretText
from authz.feeds.http.post import Post
from authz.telemetry.redaction import printable

_NEVER_ISSUED: Final = "authz-check-config-asks-whether-this-is-answered"


@dataclass(frozen=True, slots=True)
class Probed:
    """What asking one issuer proved: *ok* says that it answers us, *findings* are sentences."""

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


def probe_all(config: Config) -> list[Probed]:
    """Probe every issuer that is asked about tokens."""
    return [probe(name, issuer) for name, issuer in config.issuers.items() if issuer.introspection is not None]


def probe(name: str, issuer: Issuer) -> Probed:
    """Probe one issuer."""
    try:
        fact = _ask(issuer, _NEVER_ISSUED)
    except SourceError as error:
        return Probed(name, ok=False, findings=(f"{error.result}: {error}",))
    if fact.result == "active":
        return Probed(name, ok=False, findings=("a token that was never issued is called active: this proves nothing",))
    findings = ["a token that was never issued is called inactive"]
    if issuer.introspection is not None and issuer.introspection.kind is IntrospectionKind.TOKEN_REVIEW:
        findings.append("our account may ask the API server about tokens (tokenreviews)")
        return Probed(name, ok=True, findings=tuple(findings))
    try:
        findings += [*_try_wrong_secret(issuer), *_ask_about_own(issuer)]
    except RefreshError as error:
        findings.append(f"no more could be tried: {error}")
    return Probed(name, ok=True, findings=tuple(findings))


def _ask(issuer: Issuer, token: str, auth: ClientAuth | None = None) -> Fact:
    source = make_introspection(issuer, auth=auth)
    try:
        return source(introspection_need(token, "", Introspection(client="", source="")))
    finally:
        source.close()


def _try_wrong_secret(issuer: Issuer) -> Iterator[str]:
    """Ask with a wrong secret."""
    asked = issuer.introspection
    if asked is None or asked.client.secret_file is None:
        yield "whether our credentials are looked at cannot be tried with this kind of proof"
        return
    wrong = SecretText(asked.client.id or "", "wrong on purpose")
    try:
        _ask(issuer, _NEVER_ISSUED, wrong)
    except SourceError as error:
        yield f"a wrong secret is refused ({error.result}), so ours is right"
    else:
        yield "a wrong secret is answered too: the server does not look at it, and ours is not proved right"


def _ask_about_own(issuer: Issuer) -> Iterator[str]:
    """Get a token for ourselves, and ask about it. Raises RefreshError."""
    token = _get_token(issuer)
    if token is None:
        yield "whether we may ask about tokens was not tried: the server gives our client none (client_credentials)"
        return
    try:
        fact = _ask(issuer, token)
    except SourceError as error:
        yield f"a token of our own cannot be asked about: {error}"
        return
    if fact.result == "active":
        said = (
            ", ".join(sorted(fact.value.members))
            if isinstance(fact.value, IntrospectionResponse)
            else "a signed answer"
        )
        yield f"a token of our own is called active, with {said}"
    else:
        yield (
            f"a token of our own is called {fact.result}: our client may not ask about it (Keycloak: it must be in "
            "aud, and the host name that of iss), or the server takes no JWTs"
        )


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
        answer = poster.post(url, lambda: Post(body, headers))
    finally:
        poster.close()
    try:
        token = parse_object(answer.body).get("access_token") if answer.status == 200 else None
    except ValueError:
        return None
    return token if isinstance(token, str) and token.isascii() else None


def _find_token_endpoint(issuer: Issuer) -> str | None:
    """Return where the issuer gives tokens, None if it does not say. Raises RefreshError."""
    if issuer.key_sources not in ((), ("discovery_url",)):
        return None
    where = issuer.discovery_url or discovery_url(issuer.discovery_base)
    document = make_fetcher(issuer, make_dialer(issuer)).get(where, {}).body
    try:
        return read_url("token_endpoint", document, issuer=issuer.issuer)
    except ValueError:
        return None
