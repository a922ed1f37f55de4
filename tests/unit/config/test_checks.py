"""Proves what checks must let pass; what they refuse is in tests/data/bad, one file for each defect."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Final

import pytest
import yaml

from authz.config.checks.bounds import BOUNDS
from authz.config.checks.identity import MAX_IDENTITY_HEADERS
from authz.config.checks.tokens import check_resource
from authz.config.diagnostics.warnings import warnings
from authz.config.load import parse
from authz.config.model import Resource
from tests.unit.config.sample import configure, problems, small

ED25519 = "{kty: OKP, crv: Ed25519, kid: ours, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}"


@pytest.mark.parametrize(
    "issuer",
    [
        "jwks_uri: https://login.example.com/keys?p=policy",
        "jwks_uris: [https://east.example.com/keys, https://west.example.com/keys]",
        "discovery_url: https://login.internal:8443/.well-known/openid-configuration",
        "insecure: {http: true}\n    jwks_uri: http://login.internal/keys",
        "insecure: {no_expiry: true}\n    required_claims: []",
        "algorithms: [RS256, HS256]\n    jwks_file: /etc/authz/jwks.json",
        "jwks: {keys: [{kty: OKP, crv: Ed25519, x: 11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo}], note: ours}",
        "fetch: {allowed_hosts: [keys.example.com, 10.0.0.1], allowed_networks: [10.0.0.0/8, 'fd00::/8']}",
        "fetch: {allowed_hosts: ['keys.example.com:8443', '[::1]:443', '::1']}",
        "fetch: {min_interval: 10m, interval: 10m, max_interval: 10m}",
        "claims: {roles: realm_access.roles, tenant: '[\"https://example.com/tenant\"]'}",
        "fetch: {allowed_networks: [169.254.1.2, 169.254.0.0/16]}",
        "fetch: {proxy: 'http://proxy.internal', proxy_credentials_file: /proxy}",
        "fetch: {client_cert_file: /tls.crt, client_key_file: /tls.key}",
        "leeway: 0s",
        "blocked_keys: [key-1]",
    ],
)
def test_issuers(issuer: str) -> None:
    """An issuer may say this."""
    configure(issuer=issuer)


@pytest.mark.parametrize("source", ["jwks: {keys: []}", "jwks_file: /keys.json", "jwks_uri: https://keys.example.com/"])
def test_issuer_may_be_any_text(source: str) -> None:
    """Where the keys come from elsewhere, iss is compared and never fetched (RFC 7519 section 4.1.1)."""
    text = small(issuer=source).replace("https://login.example.com/", "accounts.example.com")
    assert problems(text) == []


def test_issuer_may_be_a_trust_domain() -> None:
    """Whole and in lower case: with a path it would never be that of any sub."""
    text = small(issuer="jwks_uri: https://spire.test:8443/")
    assert problems(text.replace("https://login.example.com/", "spiffe://example.org")) == []
    for wrong in ("spiffe://example.org/", "spiffe://example.org/ns/shop", "spiffe://Example.org", "spiffe://"):
        [problem] = problems(text.replace("https://login.example.com/", wrong))
        assert "issuers.corporate.issuer: is not a trust domain" in problem


@pytest.mark.parametrize("source", ["discovery_url: https://fs.test/adfs/d", "jwks_uri: https://fs.test/adfs/keys"])
def test_issuer_may_be_an_http_identifier(source: str) -> None:
    """AD FS has such ones: no loosening is asked for, and nothing is warned of, if what is fetched is https."""
    text = small(issuer=source).replace("https://login.example.com/", "http://fs.test/adfs/services/trust")
    assert problems(text) == []
    assert warnings(parse(text, file="authz.yaml")) == []
    [problem] = problems(text.replace("https://", "http://"))
    assert problem.endswith("must begin with https:// (or set issuers.corporate.insecure.http)")


def test_several_key_sets_are_urls_that_differ() -> None:
    """Each is checked as jwks_uri is, and they are one source of keys: none beside them."""
    bad = "jwks_uris: [https://a.test/keys, https://a.test/keys, 'http://b.test/', 'https://c.test/{tenantid}/keys']"
    found = "\n".join(problems(small(issuer=bad)))
    for place in ("jwks_uris[1]: is listed twice", "jwks_uris[2]: ", "jwks_uris[3]: has the placeholder {tenantid}"):
        assert place in found
    both = "jwks_uris: [https://a.test/keys]\n    jwks_uri: https://b.test/keys"
    assert "the keys come from jwks_uri already" in "\n".join(problems(small(issuer=both)))


def test_inline_keys_that_can_never_serve() -> None:
    """Keys of which none is usable are an error, with the reasons; an empty list, or all of them blocked, is none."""
    junk = "{kty: new, kid: a}, {kty: RSA, n: AQAB, e: AQAB, kid: b}"
    [problem] = problems(small(issuer=f"jwks: {{keys: [{junk}]}}"))
    why = "RSA modulus of 17 bits, not 2048 to 8192; kty is unknown"
    assert problem == f"6: issuers.corporate.jwks: contains no usable key: {why}"
    assert problems(small(issuer=f"jwks: {{keys: [{junk}, {ED25519}]}}")) == []
    assert problems(small(issuer=f"jwks: {{keys: [{ED25519}]}}\n    blocked_keys: [ours]")) == []
    assert problems(small(issuer="jwks: {keys: []}")) == []


def test_secrets_in_the_file_are_told_once() -> None:
    """What is reported key by key is not said again of them all; what is wrong beside it is."""
    secret = "{kty: oct, k: AQAB}"
    [problem] = problems(small(issuer=f"jwks: {{keys: [{secret}]}}"))
    assert problem.startswith("6: issuers.corporate.jwks.keys[0]: contains private key material")
    assert len(problems(small(issuer=f"jwks: {{keys: [{secret}, {{kty: new}}]}}"))) == 2


@pytest.mark.parametrize("host", ["keys.test:0", "keys.test:", "keys.test:x", "https://keys.test", "a b"])
def test_hosts_that_cannot_be_allowed(host: str) -> None:
    """A host has a port or none, and nothing else."""
    [problem] = problems(small(issuer=f"fetch: {{allowed_hosts: ['{host}']}}"))
    assert problem.endswith("is neither a host nor host:port, without scheme and path")


@pytest.mark.parametrize("source", ["jwks: {keys: []}", "jwks_file: /keys.json"])
def test_issuer_may_be_http_where_nothing_is_fetched(source: str) -> None:
    """With local keys, an issuer that begins with http:// is a name like any other."""
    assert problems(small(issuer=source).replace("https://login", "http://login")) == []


def test_any_audience() -> None:
    """An issuer without audiences has to say that it means it."""
    text = small(issuer="insecure: {any_audience: true}")
    assert problems(text.replace("    audiences: [orders-api]\n", "")) == []
    assert len(problems(small().replace("    audiences: [orders-api]\n", ""))) == 1


@pytest.mark.parametrize(
    "server",
    [
        "{listen: '127.0.0.1:9191'}",
        "{listen: '[::1]:0'}",
        "{listen: 'localhost:9191'}",
        "{listen: '0.0.0.0:9191', tls: {cert_file: a, key_file: b, client_ca_file: c}}",
        "{listen: '127.0.0.1:9191', tls: {cert_file: a, key_file: b}}",
        "{socket_mode: '660'}",
    ],
)
def test_servers(server: str) -> None:
    """A server may listen here."""
    configure(more=f"server: {server}\n")


@pytest.mark.parametrize(
    ("issuer", "more"),
    [
        ("jwks_uri: http://login.internal/keys", ""),
        ("required_claims: []", ""),
        ("introspection: {url: 'http://login.test/i', client: {id: a, secret_file: /s}}", ""),
        ("", "pdps: {p: {url: 'http://pdp.test/x'}}\n"),
        ("", "risk: {url: 'http://risk.test/x'}\n"),
        ("", "revocation: {lists: {l: {url: 'http://list.test/x'}}}\n"),
        ("", "shared_state: {url: 'redis://valkey.svc'}\n"),
    ],
)
def test_the_option_of_a_hint_can_be_set_as_it_is_written(issuer: str, more: str) -> None:
    """A hint names an option by its whole path: set there, the file is accepted."""
    text = small(issuer=issuer, more=more)
    [problem] = problems(text)
    [option] = re.findall(r"set ([\w.]+)\)", problem)
    data = yaml.safe_load(text)
    *sections, key = option.split(".")
    place = data
    for name in sections:
        place = place.setdefault(name, {})
    place[key] = True
    assert problems(yaml.safe_dump(data)) == []


def test_plaintext_beyond_loopback() -> None:
    """Plain TCP beyond loopback has to be asked for."""
    configure(more="server: {listen: '0.0.0.0:9191'}\ninsecure: {plaintext: true}\n")


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        (f"unix:/{'a' * 105}", "with the numbers of 11 workers, the path has more than 107 bytes"),
        ("127.0.0.1:65530", "there are no 11 ports from here on, one for each worker"),
        ("127.0.0.1:9182", "the port is one of the server's"),
    ],
)
def test_addresses_of_workers(listen: str, said: str) -> None:
    """Every worker needs a socket or port of its own, beginning with the one that is given."""
    found = problems(small(more=f"server: {{listen: '{listen}', workers: 11}}\n"))
    assert [problem for problem in found if problem.endswith(said)]


def test_longest_socket_path_of_workers() -> None:
    """The numbers of the workers count, and nothing else: a path of 107 bytes with them will do."""
    found = problems(small(more=f"server: {{listen: 'unix:/{'a' * 103}', workers: 11}}\n"))
    assert not [problem for problem in found if "bytes" in problem]
    assert problems(small(more=f"server: {{listen: 'unix:/{'a' * 106}'}}\n")) == []


@pytest.mark.parametrize(
    "rule",
    [
        "allow: optional\n    require: {scopes: [a], max_age: 15m}",
        "allow: optional\n    accept: [semicolon]",
        "allow: deny",
        "require: {claims: {roles: [admin], 'a.b': [1], '[\"https://example.com/tenant\"]': [true]}}",
        "require: {acr: ['urn:mfa'], amr: [hwk], any_scope: [a, b], audiences: [x], issuers: [corporate]}",
        "shadow: true",
    ],
)
def test_rules(rule: str) -> None:
    """A rule may say this; with allow: optional the requirements apply if there is a token."""
    configure(rule=rule)


def test_names_of_claims() -> None:
    """A name that any issuer gives to a claim is as good as a path, in rules, headers and metadata."""
    configure(
        issuer="claims: {roles: realm_access.roles}",
        rule="require: {claims: {roles: [admin]}, all_of: {roles: [staff]}}",
        more="identity: {headers: {x-auth-roles: {claim: roles, join: ','}}, metadata: [roles]}\n",
    )


@pytest.mark.parametrize(
    "header",
    [
        "x-auth-org: {claim: org, format: base64url}",
        "x-auth-claims: {payload: json}",
        "x-auth-gateway: {value: a b}",
        "x_auth: sub",
        "x-a-b-c-d-e: sub",
        "x-roles: {claim: roles, join: ' '}",
    ],
)
def test_headers(header: str) -> None:
    """An identity header may be this."""
    configure(more=f"identity: {{headers: {{{header}}}}}\n")


@pytest.mark.parametrize(
    ("identifier", "scopes", "said"),
    [
        ("https://api.example.com", ("orders:read",), []),
        ("http://api.example.com", (), ["resource.identifier: must begin with https://"]),
        ("https://api.example.com/#a", (), ["resource.identifier: must not have a fragment"]),
        (
            "https://api.example.com",
            ("a", "b c"),
            ["resource.scopes[1]: must be visible ASCII without spaces, quotation marks and backslashes"],
        ),
    ],
)
def test_resource(identifier: str, scopes: tuple[str, ...], said: list[str]) -> None:
    """A resource is an https URL without a fragment (RFC 9728 section 1.2)."""
    config = configure().model_copy(update={"resource": Resource(identifier=identifier, scopes=scopes)})
    assert [str(problem) for problem in check_resource(config)] == said


def test_proxy_is_a_url() -> None:
    """A proxy is a URL, plain or not, without a password: secrets are read from files."""
    found = problems(small(issuer="fetch: {proxy: 'http://user:password@proxy.internal:3128'}"))
    assert "6: issuers.corporate.fetch.proxy: must not contain a user or password" in found[:1]
    found = problems(small(issuer="fetch: {proxy: 'http://proxy.internal:3128'}"))
    assert not [problem for problem in found if "not supported yet" not in problem]


def test_number_of_identity_headers() -> None:
    """There are at most as many identity headers as one response of ours can carry."""
    headers = [f"x-{number}: sub" for number in range(MAX_IDENTITY_HEADERS + 1)]
    assert problems(small(more=f"identity: {{headers: {{{', '.join(headers[1:])}}}}}\n")) == []
    assert problems(small(more=f"identity: {{headers: {{{', '.join(headers)}}}}}\n")) == [
        f"9: identity.headers: has {MAX_IDENTITY_HEADERS + 1} headers, at most {MAX_IDENTITY_HEADERS}"
    ]


def _beside(bound: str, step: int) -> int | str:
    """Write the number, duration or size that is *step* away from *bound*."""
    number = bound.rstrip("abcdefghijklmnopqrstuvwxyzKMB")
    unit = bound.removeprefix(number)
    return f"{int(number) + step}{unit}" if unit else int(number) + step


_NEEDED: Final[dict[str, object]] = {
    "introspection": {"client": {"bearer_token_file": "t"}},
    "pdps": {"corporate": {"url": "https://pdp.test/access/v1/evaluation"}},
    "identity": {"token": {"audience": ["orders"], "issuer": "https://gateway.example.com"}},
    "keys": {"main": {"kind": "memory"}},
    "shared_state": {"url": "redis://localhost"},
    "status_list": {"uris": ["https://status.example.com/"], "interval": "1s", "max_stale": "168h"},
    "lists": {"partner": {"file": "/l"}},
    "transmitters": {"hub": {"issuer": "https://hub.test", "audiences": ["a"], "revokes_for": ["corporate"]}},
    "token": {"audience": ["x"]},
    "exchange": {"issuer": "corporate", "client": {"id": "gw", "secret_file": "/s"}},
    "risk": {"url": "https://risk.example.com/v1/assess"},
}


def _problems_with(pattern: str, value: int | str) -> list[str]:
    """Put *value* where *pattern* points in the smallest configuration, and return what its bounds say to that."""
    data: Any = yaml.safe_load(small())
    place = data
    *above, key = pattern.split(".")
    for step in above:
        if step == "*":
            place = place[0] if isinstance(place, list) else next(iter(place.values()))
        else:
            place = place.setdefault(step, deepcopy(_NEEDED.get(step, {})))
    place[key] = value
    return [problem for problem in problems(yaml.safe_dump(data)) if f"{key}: must be at " in problem]


@pytest.mark.parametrize("pattern", BOUNDS)
def test_bounds(pattern: str) -> None:
    """Both bounds are themselves allowed; one step beyond either is not."""
    least, most = BOUNDS[pattern]
    assert _problems_with(pattern, _beside(least, 0)) == []
    assert _problems_with(pattern, _beside(most, 0)) == []
    assert len(_problems_with(pattern, _beside(most, 1))) == 1
    if not least.startswith("0"):
        assert len(_problems_with(pattern, _beside(least, -1))) == 1


ASKED: Final = "introspection: {client: {id: a, secret_file: s}, MORE}"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", ""),
        ("mode: always, signed: true, token_kind: typ", ""),
        ("url: 'http://login.example.com/i'", "introspection.url: must begin with https://"),
        ("token_prefix: 'a b'", "introspection.token_prefix: has characters that no token has"),
        ("token_prefix: eyJ", "introspection.token_prefix: is how JWTs begin"),
        ("token_prefix: e", "introspection.token_prefix: is how JWTs begin"),
        ("token_prefix: ewo", "introspection.token_prefix: is how JWTs begin"),
        ("token_prefix: e_", ""),
        ("token_proof: {token_use: []}", "introspection.token_proof.token_use: must name a member and its values"),
        ("token_kind: any", "introspection.token_kind"),
        ("cache: 2h", "introspection.cache: must be at most 1h"),
        ("max_wait: 1m", "introspection.max_wait: must be at most 10s"),
    ],
)
def test_how_an_issuer_is_asked(more: str, expected: str) -> None:
    """What cannot be asked, or proves nothing, is said with its path."""
    found = problems(small(issuer=ASKED.replace("MORE", more)))
    assert len(found) == bool(expected), found
    assert all(expected in line for line in found)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("id: a", "must have one of secret_file, private_key_file, mtls, bearer_token_file"),
        ("id: a, secret_file: s, bearer_token_file: t", "and has secret_file and bearer_token_file"),
        ("secret_file: s", "needs the id of the client"),
        ("bearer_token_file: t", ""),
        ("id: a, mtls: true", "client.mtls: needs the certificate in fetch.client_cert_file"),
        ("id: a, secret_file: s, key_id: k", "client.key_id: is for private_key_file only"),
        ("id: a, private_key_file: p, algorithm: ES256", ""),
        ("id: a, private_key_file: p, algorithm: ES257", "client.algorithm: unknown algorithm"),
        ("id: a, private_key_file: p, algorithm: HS256", "client.algorithm: is symmetric"),
    ],
)
def test_who_asks_is_proved_in_one_way(client: str, expected: str) -> None:
    """One proof, complete, and nothing that belongs to another."""
    found = problems(small(issuer=f"introspection: {{client: {{{client}}}}}"))
    assert len(found) == bool(expected), found
    assert all(expected in line for line in found)


def test_where_an_issuer_is_asked_must_be_known() -> None:
    """Without discovery the URL is given; a signed answer names who asked; tenants have no opaque tokens."""
    jwks = "jwks_uri: https://login.example.com/k\n    "
    (found,) = problems(small(issuer=jwks + ASKED.replace(", MORE", "")))
    assert "introspection.url: must be given: with jwks_uri no discovery takes place" in found
    (found,) = problems(small(issuer="introspection: {client: {bearer_token_file: t}, signed: true}"))
    assert "introspection.signed: needs client.id" in found


def test_an_opaque_token_is_of_one_issuer() -> None:
    """Two that are asked must differ in how their tokens begin: no token is shown to another's issuer."""

    def two(prefix: str) -> list[str]:
        asked = "introspection: {client: {id: a, secret_file: s}, token_prefix: P}"
        second = f"""  partner:
    issuer: https://partner.example.com
    audiences: [a]
    {asked.replace("P", prefix)}
"""
        text = small(issuer=asked.replace("P", "''"))
        return problems(text.replace("rules:", f"{second}rules:", 1))

    assert two("pa_") == []
    (found,) = two("''")
    assert "issuers.partner.introspection.token_prefix: opaque tokens could be of" in found


PDP: Final = "https://pdp.test/access/v1/evaluation"


def _with_pdp(pdp: str = f"url: '{PDP}'", asked: str = "p", paths: str = '"/a/{id}"') -> list[str]:
    """What is wrong with a PDP, and with a rule that asks it."""
    text = small(more=f"pdps: {{p: {{{pdp}}}}}\n")
    return problems(
        text.replace("match: {paths: [/orders]}", f"match: {{paths: [{paths}]}}\n    require: {{pdp: {asked}}}")
    )


@pytest.mark.parametrize(
    ("pdp", "expected"),
    [
        (f"url: '{PDP}'", ""),
        (f"kind: opa, url: '{PDP}'", ""),
        ("url: 'http://localhost:8181/x/evaluation'", ""),
        ("url: 'http://127.0.0.1:8181/x/evaluation'", ""),
        ("url: 'http://[::1]:8181/x/evaluation'", ""),
        ("url: 'http://pdp.test/x', insecure: {http: true}", ""),
        ("url: 'http://pdp.test/x'", "pdps.p.url: must begin with https:// (or set pdps.p.insecure.http)"),
        ("url: 'https://pdp.test'", "pdps.p.url: names no endpoint (AuthZEN: /access/v1/evaluation)"),
        ("url: 'https://pdp.test/', kind: opa", "pdps.p.url: names no endpoint (OPA: /v1/data/"),
        ("url: 'https://pdp.test/access/v1/evaluations'", "pdps.p.url: is the endpoint for several evaluations"),
        ("url: 'https://u:p@pdp.test/x'", "pdps.p.url: must not contain a user or password"),
        ("url: 'https://[pdp/x'", "pdps.p.url: must have a host"),
        (f"url: '{PDP}', client_cert_file: /a", "pdps.p.client_cert_file: needs client_key_file too"),
        (f"url: '{PDP}', client_key_file: /a", "pdps.p.client_key_file: needs client_cert_file too"),
        (
            f"url: '{PDP}', bearer_token_file: /a, basic_credentials_file: /b",
            "pdps.p.basic_credentials_file: a request has one Authorization header",
        ),
        (f"url: '{PDP}', kind: xacml", "pdps.p.kind"),
        ("kind: opa", "pdps.p.url"),
    ],
)
def test_pdps(pdp: str, expected: str) -> None:
    """A PDP is one endpoint, by TLS unless it is on this host, with one kind of credentials."""
    found = _with_pdp(pdp)
    assert len(found) == bool(expected), found
    assert all(expected in problem for problem in found)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("p", ""),
        ("{name: p}", ""),
        ("q", "require.pdp.name: no pdp is named 'q'"),
        ("{}", "require.pdp.name"),
        ("{name: p, resource: {id: '${params.id}'}}", ""),
        ("{name: p, resource: {id: '${params.ids}'}}", "resource.id: no path of this rule has a parameter 'ids'"),
        ("{name: p, context: {a: [{b: \"${params['x']}\"}]}}", "pdp.context: no path of this rule has a parameter 'x'"),
        ("{name: p, subject: {properties: {a: '${size(params.x)}'}}}", "no path of this rule has a parameter 'x'"),
        ("{name: p, resource: {type: ''}}", "resource.type: must not be empty"),
        ("{name: p, action: {name: '${}'}}", 'action.name: "${}" refers to nothing'),
        ("{name: p, subject: {id: '${claim.sub}'}}", "subject.id: ${claim.sub}: column 6: undeclared reference"),
        ("{name: p, subject: {id: '${claims.a.matches(claims.b)}'}}", "the argument of matches must be a literal"),
        ("{name: p, subject: {properties: {a: '${x'}}}", 'subject.properties: has a "${" without its "}"'),
        ("{name: p, subject: {kind: user}}", "subject.kind"),
    ],
)
def test_questions_to_a_pdp(asked: str, expected: str) -> None:
    """What cannot be written for any request is found at load, at its place."""
    found = _with_pdp(asked=asked)
    assert len(found) == bool(expected), found
    assert all(expected in problem for problem in found)


def test_names_of_pdps() -> None:
    """They are labels of metrics."""
    text = small(more=f"pdps: {{'a b': {{url: '{PDP}'}}}}\n")
    assert problems(text) == [
        "9: pdps['a b']: the name of a PDP has at most 64 letters, digits, dots, hyphens and underscores"
    ]


def test_a_pdp_that_cannot_be_read_hides_no_other_problem() -> None:
    """A rule that names it is not wrong, and what else is wrong is told."""
    found = _with_pdp("url: 5", asked="{name: p, resource: {type: ''}}")
    assert [problem.partition(": ")[2].partition(":")[0] for problem in found] == [
        "rules[0].require.pdp.resource.type",
        "pdps.p.url",
    ]
    whole = small(more="pdps: [p]\n").replace("match: {paths: [/orders]}", "require: {pdp: p}")
    assert [problem.partition(": ")[2].partition(":")[0] for problem in problems(whole)] == ["pdps"]
