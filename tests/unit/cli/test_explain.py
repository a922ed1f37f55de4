"""Proves `authz explain`: the steps of one decision, by the code that decides."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from authz.cli import main
from authz.demo.signing import SigningKey
from tests.cases.proofs import BOUND
from tests.fakes.idp import FakeIdp
from tests.fixtures import A_RSA, ABSENT, A, T, changed, jwks, mint, signer
from tests.proofs import key, prove, token_hash

CONFIG = """version: 1
issuers:
  a: {issuer: "ISSUER", audiences: [api], leeway: 0s, insecure: {http: true}}
rules:
  - {name: health, match: {paths: [/healthz]}, allow: public}
  - {name: write, match: {paths: ["/orders/{id}"], methods: [POST]}, require: {scopes: [w], when: claims.sub == 'bob'}}
  - {name: read, match: {paths: ["/orders/**"]}}
  - {name: off, match: {paths: [/off]}, allow: deny}
  - {name: routed, match: {paths: [/routed], context: {k: v}}, allow: public}
  - {name: trial, match: {paths: [/trial]}, require: {scopes: [w]}, shadow: true}
identity: {headers: {x-user: sub}}
resource: {identifier: https://api.test}
"""

Explain = Callable[..., Result]


@pytest.fixture
def explain(tmp_path: Path) -> Explain:
    """Run `authz explain` with a key set file, in which issuer a's key is."""

    def run(
        *arguments: str,
        token: str | None = None,
        issuer: str = A,
        at: float = T,
        keys: bool = True,
        stdin: str | None = None,
        config_text: str = CONFIG,
    ) -> Result:
        config, key_file, token_file = tmp_path / "authz.yaml", tmp_path / "jwks.json", tmp_path / "token"
        config.write_text(config_text.replace("ISSUER", issuer), encoding="utf-8")
        key_file.write_text(jwks(A_RSA), encoding="utf-8")
        options = ["explain", "--config", str(config), "--host", "api.test", "--at", str(at)]
        if keys:
            options += ["--jwks", str(key_file)]
        if token is not None:
            token_file.write_text(token + "\n", encoding="utf-8")
            options += ["--token-file", str(token_file)]
        return CliRunner().invoke(main, [*options, *arguments], input=stdin)

    return run


def steps(result: Result) -> list[tuple[int, str]]:
    """Return number and end of each step, from the table."""
    rows = [line.split() for line in result.stdout.splitlines() if line[:2].strip().isdigit()]
    return [(int(row[0]), "not reached" if row[2:4] == ["not", "reached"] else row[2]) for row in rows]


def test_a_good_request_passes_every_step(explain: Explain) -> None:
    """Thirteen steps, each with what it looked at; the token itself is not shown."""
    token = mint(scope="r w")
    result = explain("--method", "POST", "--path", "/orders/7?q=1", token=token)

    assert result.exit_code == 0, result.output
    assert steps(result) == [(number, "ok") for number in range(1, 14)]
    assert result.stdout.splitlines()[-1] == "allow authenticated"
    for shown in (
        "POST api.test /orders/7\n",
        "write, allow authenticated, id=7",
        "one, in header authorization",
        "alg RS256, kid a-rsa",
        f"iss {A}, configured as a",
        "exp in 300 s",
        "scopes w; when claims.sub == 'bob'; scopes granted: r w",
        "set: x-user;",
    ):
        assert shown in result.stdout
    assert not any(part in result.output for part in token.split("."))


ENDS = {
    "malformed": (["--host", "a b"], None, 1, "deny request_malformed, HTTP 400"),
    "no rule": (["--path", "/nowhere"], None, 2, "deny policy_denied, HTTP 403: no rule matches"),
    "ambiguous": (["--path", "/orders//7"], None, 2, "deny path_ambiguous, HTTP 400"),
    "nobody": (["--path", "/off"], None, 3, "deny policy_denied, HTTP 403"),
    "no token": (["--path", "/orders/7"], None, 3, "deny token_missing, HTTP 401"),
    "no JWS": (["--path", "/orders/7"], "bad", 4, "deny token_malformed, HTTP 401"),
    "no JSON": (["--path", "/orders/7"], mint(payload=b"x"), 5, "deny claims_malformed, HTTP 401"),
    "unknown issuer": (["--path", "/orders/7"], mint(iss="x"), 5, "deny issuer_unknown, HTTP 401"),
    "algorithm": (["--path", "/orders/7"], mint(header={"alg": "HS256"}), 6, "deny alg_not_allowed, HTTP 401"),
    "unknown key": (["--path", "/orders/7"], mint(header={"kid": "x"}), 8, "deny key_not_found, HTTP 401"),
    "signature": (["--path", "/orders/7"], mint()[:-8] + "AAAAAAAA", 9, "deny signature_invalid, HTTP 401"),
    "expired": (["--path", "/orders/7"], mint(exp=T), 10, "deny token_expired, HTTP 401: expired 0 s ago"),
    "bound": (["--path", "/orders/7"], mint(cnf={"jkt": "x"}), 11, "deny token_bound, HTTP 401"),
    "scope": (
        ["--path", "/orders/7", "--method", "POST"],
        mint(scope="r"),
        12,
        "deny insufficient_scope, HTTP 403: scope lacks w",
    ),
    "unsafe": (["--path", "/orders/7"], mint(sub="a\nb"), 13, "deny header_unsafe, HTTP 403"),
}


@pytest.mark.parametrize(("arguments", "token", "at_step", "verdict"), ENDS.values(), ids=ENDS)
def test_a_denial_ends_at_its_step(
    explain: Explain, arguments: list[str], token: str | None, at_step: int, verdict: str
) -> None:
    """Steps before it passed, it denied, those behind it were not reached; the exit code says so."""
    result = explain(*arguments, token=token)

    ends = ["ok"] * (at_step - 1) + ["deny"] + ["not reached"] * (13 - at_step)
    assert [end for _, end in steps(result)] == ends, result.output
    assert result.stdout.splitlines()[-1].startswith(verdict)
    assert result.exit_code == 1


BOUND_CONFIG = CONFIG.replace("leeway: 0s,", "leeway: 0s, dpop: allowed,")


def test_a_proof_is_looked_at(explain: Explain, tmp_path: Path) -> None:
    """The step of the binding says whose key it is, for what, and how old; its need says what was assumed."""
    proof = prove(htu="https://api.test/orders/7", ath=token_hash(BOUND), iat=T - 5)
    file = tmp_path / "proof"
    file.write_text(proof, encoding="utf-8")

    for given in (["--proof", str(file)], ["--header", f"DPoP: {proof}"]):
        result = explain("--path", "/orders/7?q=1", *given, token=BOUND, config_text=BOUND_CONFIG)

        assert result.exit_code == 0, result.output
        said = (
            "a proof (the key in cnf, made 5 s ago, GET https://api.test/orders/7); for GET https://api.test/orders/7\n"
        )
        assert said in result.stdout
        assert " of a: taken as used for the first time; a running sidecar accepts it once\n" in result.stdout
        assert proof.split(".")[1] not in result.output


PROOFS = {
    "none": ([], "cnf jkt", "deny token_bound, HTTP 401"),
    "unreadable": (["--header", "dpop: x"], "a proof (unreadable)", "deny proof_invalid, HTTP 401"),
    "another key": (
        ["--header", f"dpop: {prove(key('Ed25519'), htu='https://api.test/orders/7', ath=token_hash(BOUND))}"],
        "a proof (key ",
        "deny proof_invalid, HTTP 401: proof: its key is not the one in cnf",
    ),
    "no key": (["--header", f"dpop: {prove(header={'jwk': ABSENT})}"], "(key unusable", "deny proof_invalid, HTTP 401"),
    "without claims": (
        ["--header", f"dpop: {prove(iat=ABSENT, htm=ABSENT, htu='https://api.test/' + 'a' * 99)}"],
        f"no iat, absent https://api.test/{'a' * 43}...)",
        "deny proof_invalid, HTTP 401",
    ),
    "beside a bearer token": (
        ["--header", f"authorization: Bearer {BOUND}", "--header", f"dpop: {prove()}"],
        "a proof beside a bearer token (",
        "deny proof_invalid, HTTP 401",
    ),
    "under the scheme alone": (["--header", f"authorization: DPoP {BOUND}"], "no proof; for GET", "deny proof_invalid"),
}


@pytest.mark.parametrize(("given", "shown", "verdict"), PROOFS.values(), ids=PROOFS)
def test_a_proof_that_does_not_fit(explain: Explain, given: list[str], shown: str, verdict: str) -> None:
    """What was looked at is shown with each denial."""
    own = any("authorization" in each for each in given)
    result = explain("--path", "/orders/7", *given, token=None if own else BOUND, config_text=BOUND_CONFIG)

    assert steps(result)[10] == (11, "deny"), result.output
    assert shown in result.stdout
    assert result.stdout.splitlines()[-1].startswith(verdict)


@pytest.mark.parametrize(
    ("cnf", "shown"),
    [
        ({"x5t#S256": "x"}, "cnf x5t#S256; no certificate of the peer"),
        ({}, "cnf empty"),
        ("x", "cnf is no object"),
    ],
)
def test_a_confirmation_without_a_key(explain: Explain, cnf: object, shown: str) -> None:
    """What the token asks of its sender is named, whatever it is."""
    assert f" {shown}\n" in explain("--path", "/orders/7", token=mint(cnf=cnf)).stdout


def test_stdin_is_the_token_or_the_proof(explain: Explain) -> None:
    """Not both."""
    assert "stdin is either" in explain("--token-file", "-", "--proof", "-", stdin="x").output


def test_a_need_is_shown_with_what_answered_it(explain: Explain) -> None:
    """A key that is unknown is a need: here the given set answers it, elsewhere the issuer, which is asked once."""
    token = mint(header={"kid": "new"})
    given = explain("--path", "/orders/7", token=token)
    assert "need: key new of a: searched for in the given key set: not found\n" in given.stdout

    with FakeIdp(algorithm="RS256") as idp:
        token = mint(header={"kid": "new"}, iss=idp.issuer)
        asked = explain("--path", "/orders/7", "--json", token=token, issuer=idp.issuer, keys=False)
    (need,) = json.loads(asked.stdout)["needs"]
    assert {**need, "answer": ""} == {"kind": "key", "of": "a", "asked": "new", "answer": ""}
    assert need["answer"].startswith(f"searched for in {idp.issuer}")
    assert json.loads(explain("--path", "/orders/7", "--json", token=mint()).stdout)["needs"] == []


def test_a_public_rule_ends_it_early(explain: Explain) -> None:
    """No token is looked for."""
    result = explain("--path", "/healthz", token=mint())
    assert (result.exit_code, steps(result)[2]) == (0, (3, "allow"))
    assert "not searched for" in result.stdout


def test_a_shadow_says_what_it_would_deny(explain: Explain) -> None:
    """What passes in a shadow passes, and the step that would deny says so."""
    result = explain("--path", "/trial", token=mint())
    assert (result.exit_code, steps(result)[11]) == (0, (12, "would_deny"))
    assert result.stdout.splitlines()[-1] == "would_deny insufficient_scope: scope lacks w"


def test_the_metadata_document(explain: Explain) -> None:
    """What the sidecar answers itself meets no rule."""
    result = explain("--path", "/.well-known/oauth-protected-resource")
    assert (result.exit_code, steps(result)[1]) == (0, (2, "allow"))
    assert "answered by the sidecar itself (RFC 9728)" in result.stdout


def test_headers_and_context(explain: Explain) -> None:
    """Headers and context_extensions come as Envoy would send them; a header twice is joined."""
    bearer = f"Authorization: Bearer {mint()}"
    assert explain("--path", "/orders/7", "--header", bearer).exit_code == 0
    twice = explain("--path", "/orders/7", "--header", bearer, "--header", bearer)
    assert "deny token_multiple" in twice.stdout
    assert explain("--path", "/routed").exit_code == 1
    assert explain("--path", "/routed", "--context", "k=v").exit_code == 0


def test_json(explain: Explain) -> None:
    """The same as data, for programs."""
    result = explain("--path", "/orders/7", "--json", token=mint())
    document = json.loads(result.stdout)
    assert (document["decision"], document["reason"], document["rule"]) == ("allow", "authenticated", "read")
    assert [step["number"] for step in document["steps"]] == list(range(1, 14))


@pytest.mark.parametrize("at", ["2027-01-15T08:05:00Z", "2027-01-15T09:05:00+01:00", str(T + 300)])
def test_another_time(explain: Explain, at: str) -> None:
    """A token is evaluated at the time that is given, in any of its forms."""
    result = explain("--path", "/orders/7", "--at", at, token=mint())
    assert result.stdout.splitlines()[-1].startswith("deny token_expired, HTTP 401: expired 0 s ago")


@pytest.mark.parametrize("at", ["soon", "2027-01-15T08:05:00"])
def test_no_time(explain: Explain, at: str) -> None:
    """A time that cannot be read, or means another one elsewhere, is refused."""
    assert explain("--at", at).exit_code == 2


@pytest.mark.parametrize("arguments", [["--header", "x"], ["--context", "=v"]])
def test_no_pair(explain: Explain, arguments: list[str]) -> None:
    """A header without a value, and a value without a name, are refused."""
    assert explain(*arguments).exit_code == 2


def test_keys_come_from_the_issuer(explain: Explain) -> None:
    """Without --jwks the issuer's own keys are fetched, by discovery; where they cannot be, it says why."""
    with FakeIdp(algorithm="RS256") as idp:
        token = idp.mint(aud="api", sub="bob")
        issuer = idp.issuer
        found = explain("--path", "/orders/7", token=token, issuer=issuer, keys=False, at=time.time())
    assert found.exit_code == 0, found.output
    gone = explain("--path", "/orders/7", token=token, issuer=issuer, keys=False, at=time.time())
    assert "deny keys_unavailable, HTTP 503" in gone.stdout
    assert steps(gone)[6] == (7, "deny")
    assert "note: no keys of a fetched here (unreachable: " in gone.stdout
    assert "a running sidecar may still have some: authz keys\n" in gone.stdout
    assert gone.stderr == ""


def test_a_token_on_stdin(explain: Explain) -> None:
    """`--token-file -` reads it where another command writes it."""
    result = explain("--path", "/orders/7", "--token-file", "-", stdin=f"{mint()}\n")
    assert result.exit_code == 0, result.output


NEAR = {
    "a method": (["--path", "/hosted", "--host", "h.test"], ["near: rule hosted: method is POST, PUT"]),
    "a host": (["--path", "/hosted", "--method", "POST"], ["near: rule hosted: host is h.test, *.h.test"]),
    "both": (["--path", "/hosted"], ["near: rule hosted: method is POST, PUT; host is h.test, *.h.test"]),
    "a context": (["--path", "/routed"], ["near: rule routed: context is k=v"]),
    "a letter case": (["--path", "/OFF"], ["near: rule off: letter case is another"]),
    "nothing": (
        ["--path", "/nowhere"],
        ["near: no rule is for this path, whatever the method, host, context and letter case"],
    ),
    "a rule": (["--path", "/orders/7"], []),
    "a rule that allows nobody": (["--path", "/off"], []),
}
HOSTED = "  - {name: hosted, match: {paths: [/hosted], methods: [POST, PUT], hosts: [h.test, '*.h.test']}}\n"


@pytest.mark.parametrize(("arguments", "notes"), NEAR.values(), ids=NEAR)
def test_near_misses(explain: Explain, arguments: list[str], notes: list[str]) -> None:
    """Where no rule matches, those for the path say what else they ask; elsewhere nothing is said."""
    text = CONFIG.replace("identity:", f"{HOSTED}identity:")
    assert json.loads(explain(*arguments, "--json", config_text=text).stdout)["notes"] == notes
    assert [line for line in explain(*arguments, config_text=text).stdout.splitlines() if "near:" in line] == notes


def test_many_near_misses(explain: Explain) -> None:
    """Five are listed, and the number of the others."""
    many = "".join(f"  - {{name: r{place}, match: {{paths: [/many], hosts: [h{place}.test]}}}}\n" for place in range(7))
    notes = explain("--path", "/many", config_text=CONFIG.replace("identity:", f"{many}identity:")).stdout.splitlines()
    assert [line.partition(":")[2].strip() for line in notes if line.startswith("near:")][-2:] == [
        "rule r4: host is h4.test",
        "2 more rules",
    ]


PATHS = {
    "/orders//7?a=%2F": "makes // one /",
    "/orders/%2e%2E/7": "resolves dot segments",
    "/orders/..": "resolves dot segments",
    "/orders/a%2fb": "answers 400 to %2F and %5C",
    "/orders//./a%5Cb": "makes // one /, resolves dot segments, answers 400 to %2F and %5C",
    "/orders/7?next=//x/../%2F": None,
    "/orders/..7/.b": None,
}


@pytest.mark.parametrize(("path", "done"), PATHS.items(), ids=PATHS)
def test_what_envoy_does_to_a_path(explain: Explain, path: str, done: str | None) -> None:
    """A path that the sidecar would never get as it is here, with Envoy in front, says so."""
    notes = [line for line in explain("--path", path).stdout.splitlines() if line.startswith("note: ")]
    assert notes == (
        [f"note: decided for the path as given; Envoy, as `authz envoy-config` prints it, first {done}"] if done else []
    )


def test_what_envoy_leaves_alone(explain: Explain) -> None:
    """Spellings that some rule accepts come as they are."""
    accepting = CONFIG.replace('["/orders/**"]}', '["/orders/**"]}, accept: [double_slash, encoded_slash]')
    assert "note:" not in explain("--path", "/orders//a%2Fb", config_text=accepting).stdout


def test_the_line_to_write_for_keys_without_alg(explain: Explain, tmp_path: Path) -> None:
    """A key without alg serves RS256 until the operator says more, and the refusal says what to write; then it does."""
    published = tmp_path / "published.json"
    published.write_text(jwks(changed(A_RSA.public(), {"alg": ABSENT})), encoding="utf-8")
    token = mint(SigningKey("a-rsa", "PS256", A_RSA.jwk))
    refused = explain("--path", "/orders/7", "--jwks", str(published), token=token)
    assert refused.stdout.splitlines()[-1].endswith("unless the issuer is configured with algorithms: [PS256]")
    mended = CONFIG.replace("audiences: [api],", "audiences: [api], algorithms: [PS256],")
    allowed = explain("--path", "/orders/7", "--jwks", str(published), token=token, config_text=mended)
    assert allowed.stdout.splitlines()[-1] == "allow authenticated"


def test_keys_that_could_be_meant(explain: Explain, tmp_path: Path) -> None:
    """Each key that is tried is shown with its notes, and then the one that signed."""
    published = tmp_path / "published.json"
    other = signer("RS256", "other")
    published.write_text(jwks(other, changed(A_RSA.public(), {"use": "SIG"})), encoding="utf-8")
    result = explain("--path", "/orders/7", "--jwks", str(published), token=mint(header={"kid": ABSENT}))
    tried, signed = (line for line in result.stdout.splitlines() if "thumbprint" in line)
    assert tried.index(other.jwk.thumbprint()) < tried.index(A_RSA.jwk.thumbprint())
    assert tried.endswith("; note: use SIG read as sig")
    assert other.jwk.thumbprint() not in signed
    assert A_RSA.jwk.thumbprint() in signed


def test_a_key_set_that_is_none(explain: Explain, tmp_path: Path) -> None:
    """A file without keys is an error of anyone who asks."""
    broken = tmp_path / "broken.json"
    broken.write_text("{}", encoding="utf-8")
    result = explain("--path", "/orders/7", "--jwks", str(broken), token=mint())
    assert result.exit_code == 2
    assert str(broken) in result.stderr


def test_a_broken_configuration(tmp_path: Path) -> None:
    """A configuration with errors explains nothing."""
    file = tmp_path / "authz.yaml"
    file.write_text("version: 1", encoding="utf-8")
    assert CliRunner().invoke(main, ["explain", "--config", str(file)]).exit_code == 2
