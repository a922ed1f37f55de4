"""Proves that the sample configuration and all its alternatives load, and that everything wrong is reported at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from authz.config.build import build_rules
from authz.config.document import Document, parse_document
from authz.config.load import load, parse, validate
from authz.config.problems import ConfigError, KeyPath, Problem
from authz.config.text import MAX_DOCUMENT_BYTES
from authz.core.algorithms import ALGORITHMS
from authz.core.identity import Format
from authz.core.policy import AccessMode
from tests.unit.config.sample import DATA, SAMPLE, configure, problems, small

TEXT: Final = SAMPLE.read_text()
LINE: Final = re.compile(r"^(?P<indent> +)# (?P<entry>(?:- )?[a-z_-]+: .*)$", re.MULTILINE)
BLOCK: Final = re.compile(r"^# (?P<head>[a-z]+:).*\n(?P<below>(?:#   .*\n?)+)", re.MULTILINE)

# Commented keys that need one another are put in place together.
TOGETHER: Final = (("proxy", "proxy_credentials_file"), ("client_cert_file", "client_key_file"))

# Alternatives that a comment names in passing: what stands in the sample, and what may stand there.
IN_PASSING: Final = (
    ("listen: unix:/run/authz/authz.sock", "listen: 127.0.0.1:9191"),
    ("workers: 1", "workers: 2"),
    ("listen: 127.0.0.1:9192", "listen: 0.0.0.0:9192"),
    ("token_types: [JWT, at+jwt]", "token_types: [at+jwt]"),
    ("claims: {}", "claims: {roles: realm_access.roles}"),
    ("required: true", "required: false"),
    ("allow: public", "allow: optional"),
    ("allow: public", "allow: authenticated"),
    ("allow: public", "allow: deny"),
    ("hosts: [api.example.com]             ", 'hosts: ["*.example.com"]'),
    ("scopes: [orders:write] ", "any_scope: [orders:write]"),
    ("x-auth-subject: sub", "x-auth-subject: {claim: org, format: base64url}"),
    ("unsafe_values: deny", "unsafe_values: encode"),
    ("body: problem+json", "body: text"),
    ("expose_reason: false", "expose_reason: true"),
    ("unavailable: deny", "unavailable: error"),
    ("exporter: none", "exporter: otlp"),
    ("exporter: none", "exporter: console"),
    ("sample_ratio: 1.0", "sample_ratio: 0.1"),
    ("decisions: denied", "decisions: all"),
    ("decisions: denied", "decisions: none"),
    ("log_level: info", "log_level: debug"),
    ("log_format: json", "log_format: text"),
    ("log_client: true", "log_client: false"),
)


def alternatives() -> Iterator[object]:
    """Yield the sample with each of its commented alternatives put in place, one at a time."""
    for line in LINE.finditer(TEXT):
        key = line["entry"].partition(":")[0]
        keys = next((keys for keys in TOGETHER if key in keys), None)
        text = _put(line, line["indent"] + line["entry"] + "\n") if keys is None else _put_all(keys)
        if key == "pdp":  # it names one of the commented block
            text = re.sub(
                r"^# pdps:.*\n(?:#   .*\n)+", lambda block: block[0].replace("\n#", "\n")[2:], text, flags=re.MULTILINE
            )
        if "levels: [" in line["entry"]:  # of the commented engine
            text += "risk: {url: https://risk.example.com/v1/assess}\n"
        if key == "shared_secret_file":  # in the commented server
            text += "shared_state: {url: redis://127.0.0.1}\n"
        yield pytest.param(text, id=line["entry"].split("  ")[0])
    for block in BLOCK.finditer(TEXT):
        below = [line.removeprefix("#") for line in block["below"].splitlines()]
        yield pytest.param(_put(block, "\n".join([block["head"], *below])), id=block["head"])
        for option in below if block["head"] == "insecure:" else ():
            yield pytest.param(_put(block, f"{block['head']}\n{option}"), id=f"{block['head']} {option.strip()}")
    for old, new in IN_PASSING:
        yield pytest.param(TEXT.replace(old, new, 1), id=new)


def _put(match: re.Match[str], text: str) -> str:
    return TEXT[: match.start()] + text + TEXT[match.end() :]


def _put_all(keys: tuple[str, ...]) -> str:
    return re.sub(rf"^( +)# ((?:{'|'.join(keys)}): .*)$", r"\1\2", TEXT, flags=re.MULTILINE)


def test_sample_loads() -> None:
    """The sample loads as it stands, and its values are what it says."""
    config = load(SAMPLE)
    assert config.server.socket_mode == "0660"
    assert config.issuers["corporate"].fetch.max_wait == timedelta(seconds=1)
    assert config.issuers["corporate"].fetch.max_bytes == 256 * 1024
    assert [rule.name for rule in config.rules] == ["health", "orders-write", "orders-read"]
    assert config.rules[1].require is not None
    assert config.rules[1].require.claims == {
        "realm_access.roles": ("editor", "admin"),
        '["https://example.com/tenant"]': ("acme",),
    }
    assert config.identity.headers["x-auth-roles"].join == ","


def test_sample_says_the_defaults() -> None:
    """What the sample shows and is no example is what holds without it."""
    shown, small_one = load(SAMPLE), configure()
    for section in ("server", "admin", "token", "responses", "telemetry", "insecure", "resource"):
        assert getattr(small_one, section) == getattr(shown, section)
    assert small_one.issuers == shown.issuers
    assert small_one.identity.headers == {}
    assert small_one.identity.metadata == shown.identity.metadata


@pytest.mark.parametrize("text", list(alternatives()))
def test_alternatives(text: str) -> None:
    """Each commented alternative loads in its place."""
    assert text != TEXT
    assert problems(text) == []


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_algorithms_on_request(algorithm: str) -> None:
    """Every algorithm can be asked for; symmetric ones with a key file."""
    config = configure(issuer=f"algorithms: [{algorithm}]\n    jwks_file: /etc/authz/jwks.json")
    assert config.issuers["corporate"].algorithms == (algorithm,)


@pytest.mark.parametrize("file", sorted((DATA / "bad").glob("*.yaml")), ids=lambda file: file.stem)
def test_bad_files(file: Path) -> None:
    """Each bad file is refused with exactly what its first lines expect."""
    expected = re.findall(r"^# expect: (.*)$", file.read_text(), re.MULTILINE)
    assert expected
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value).splitlines() == [f"{file}:{line}" for line in expected]


def test_text_is_short_for_a_claim() -> None:
    """A header given as text is a claim written as text."""
    header = configure(more="identity: {headers: {x-auth-subject: sub}}\n").identity.headers["x-auth-subject"]
    assert (header.claim, header.format, header.join, header.payload, header.value) == (
        "sub",
        Format.TEXT,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("source", "scheme"),
    [
        ("{header: authorization}", "Bearer"),
        ("{header: authorization, scheme: ''}", ""),
        ("{header: authorization, scheme: Token}", "Token"),
        ("{header: x-token}", ""),
    ],
)
def test_schemes(source: str, scheme: str) -> None:
    """Bearer is the scheme of the authorization header, unless another one is given; other headers have none."""
    assert configure(more=f"token: {{sources: [{source}]}}\n").token.sources[0].scheme == scheme


def test_rules_without_name() -> None:
    """A rule without a name has one by its place."""
    config = configure(more="  - match: {paths: [/a]}\n  - allow: deny\n")
    assert [rule.name for rule in config.rules] == ["orders", "rule-2", "rule-3"]
    assert [rule.allow for rule in config.rules] == [
        AccessMode.AUTHENTICATED,
        AccessMode.AUTHENTICATED,
        AccessMode.DENY,
    ]


def test_one_switch_for_the_letter_case_of_all_rules() -> None:
    """`paths.case_insensitive` holds for each rule, also one without match, unless the rule says otherwise."""
    more = "  - {match: {paths: [/a], case_insensitive: false}}\n  - {allow: deny}\npaths: {case_insensitive: true}\n"
    assert [rule.match.case_insensitive for rule in build_rules(configure(more=more))] == [True, False, True]
    more = "  - {match: {paths: [/a], case_insensitive: true}}\n"
    assert [rule.match.case_insensitive for rule in build_rules(configure(more=more))] == [False, True]


def test_values_keep_their_types() -> None:
    """Claim values are text, numbers or booleans, as they are written."""
    config = configure(rule="require: {claims: {a: [1, '1', true, 1.5]}}")
    assert config.rules[0].require is not None
    values = (config.rules[0].require.claims or {})["a"]
    assert [(type(value), value) for value in values] == [(int, 1), (str, "1"), (bool, True), (float, 1.5)]


def test_configuration_is_frozen() -> None:
    """No one changes a configuration once it is loaded."""
    with pytest.raises(ValueError, match="frozen"):
        configure().server.workers = 8  # type: ignore[misc]  # this is what must not work


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """A file that cannot be opened is a problem like any other."""
    missing = tmp_path / "authz.yaml"
    with pytest.raises(ConfigError) as refused:
        load(missing)
    assert str(refused.value) == f"{missing}: cannot be read: No such file or directory"


def test_file_in_another_encoding(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are reported with their line; a byte order mark is no harm."""
    file = tmp_path / "authz.yaml"
    file.write_bytes(b"version: 1\n# caf\xe9\n")
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert str(refused.value) == f"{file}:2: is not UTF-8"
    file.write_text(small(), encoding="utf-8-sig")
    assert load(file) == configure()


def test_file_without_end(tmp_path: Path) -> None:
    """A file above the bound is not read further than the bound."""
    file = tmp_path / "authz.yaml"
    file.write_bytes(b"#" * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(ConfigError, match="is larger than"):
        load(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: is empty (begin with version: 1, issuers and rules)"),
        ("# nothing\n", "1: is empty (begin with version: 1, issuers and rules)"),
        ("text", "1: must be a mapping, not text"),
        ("5", "1: must be a mapping, not the number 5"),
    ],
)
def test_no_configuration_at_all(text: str, said: str) -> None:
    """A file that holds no mapping has one problem."""
    assert problems(text) == [said]


def test_sound_parts_are_checked_beside_broken_ones() -> None:
    """A wrong value hides only its own issuer, rule or setting: the problems of all others are found too."""
    text = small(
        issuer="leeway: 1\n  partner:\n    issuer: http://partner.example.com/\n    audiences: [a]",
        rule="shadow: 5\n  - name: items\n    match: {paths: [items]}\n    require: {issuers: [corporate, partner]}",
        more="token: {forward: 5, sources: []}\n",
    )
    assert problems(text) == [
        "6: issuers.corporate.leeway: must be a duration such as 250ms, 30s, 5m or 1h, not '1'",
        "8: issuers.partner.issuer: must begin with https:// (or set issuers.partner.insecure.http)",
        "13: rules[0].shadow: must be true or false, not the number 5",
        "15: rules[1].match.paths[0]: a path begins with /",
        "17: token.forward: must be true or false, not the number 5",
        "17: token.sources: must not be empty",
    ]


def test_what_stands_beside_a_broken_value_is_checked() -> None:
    """In one issuer or rule too: a wrong value hides only its own key, and what is evaluated by that."""
    text = small(
        issuer="leeway: 1\n    algorithms: [ES265]\n    fetch: {timeout: 0ms}\n    claims: {'a b': x}",
        rule="shadow: 5\n    require: {scopes: ['a b'], when: clams.sub == 'a'}",
    ).replace("paths: [/orders]", "paths: [orders, /a/**/b], hosts: ['https://x.y']")
    assert [problem.split(": ")[1] for problem in problems(text)] == [
        "issuers.corporate.leeway",
        "issuers.corporate.algorithms[0]",
        "issuers.corporate.fetch.timeout",
        "issuers.corporate.claims['a b']",
        "rules[0].match.hosts[0]",
        "rules[0].match.paths[0]",
        "rules[0].match.paths[1]",
        "rules[0].shadow",
        "rules[0].require.scopes[0]",
        "rules[0].require.when",
    ]


HOLED = {
    "jwks_file: 5\n    algorithms: [HS256]": (
        "6: issuers.corporate.jwks_file: must be text, not the number 5 (put it in quotes)"
    ),
    "insecure: {http: 5}\n    jwks_uri: http://x.test/": (
        "6: issuers.corporate.insecure.http: must be true or false, not the number 5"
    ),
    "issuer: 5": "6: issuers.corporate.issuer: duplicate key, first on line 4",
    "fetch: {interval: 5}": (
        "6: issuers.corporate.fetch.interval: must be a duration such as 250ms, 30s, 5m or 1h, not '5'"
    ),
}


@pytest.mark.parametrize(("issuer", "said"), HOLED.items())
def test_no_problem_is_made_of_what_is_missing(issuer: str, said: str) -> None:
    """What depends on a value that could not be read is not evaluated without it."""
    assert problems(small(issuer=issuer)) == [said]
    rule = "  - {match: {paths: 5}, require: {when: params.id == claims.sub}}\n"
    assert problems(small(issuer=issuer) + rule)[1:] == [
        f"{10 + issuer.count(chr(10))}: rules[1].match.paths: must be a list, not the number 5"
    ]


def test_misspelt_keys_are_read_as_they_were_meant() -> None:
    """What stands under a misspelt or misplaced key is checked as if it stood under the right one."""
    text = small(issuer="algoritms: [none]", rule="requires: {issuers: [corporat]}\n    methods: [get]")
    assert problems(text) == [
        "6: issuers.corporate.algoritms: unknown key (did you mean `algorithms`?)",
        "6: issuers.corporate.algorithms[0]: none means tokens without a signature: anyone can forge them",
        "10: rules[0].requires: unknown key (did you mean `require`?)",
        "10: rules[0].require.issuers[0]: no issuer is named 'corporat' (did you mean `corporate`?)",
        "11: rules[0].methods: unknown key (did you mean `match.methods`?)",
        "11: rules[0].match.methods[0]: must be a method in upper case (did you mean `GET`?)",
    ]


def test_no_problem_is_made_up() -> None:
    """Rules are not blamed for issuers that could not be read."""
    text = "version: 1\nissuers: []\n" + "rules:\n  - require: {issuers: [corporate]}\n"
    assert problems(text) == ["2: issuers: must be a mapping, not a list"]


def _paths(data: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    yield path
    for step, child in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield from _paths(child, (*path, step))


@pytest.mark.parametrize(
    "value", [None, "", "x", 0, -1.5, True, [], {}, [None], ["x", 5], {"x": 1}, {"issuer": []}], ids=repr
)
def test_anything_anywhere(value: object) -> None:
    """Whatever stands at whatever place of the sample, it loads, or it is refused with problems that have a line."""
    document = parse_document(TEXT, file="authz.yaml")
    for path in _paths(document.data):
        data: Any = deepcopy(document.data)
        place = data
        for step in path[:-1]:
            place = place[step]
        if path:
            place[path[-1]] = value
        else:
            data = value
        found = _problems_of(replace(document, data=data))
        assert all(problem.line for problem in found)


def _problems_of(document: Document) -> tuple[Problem, ...]:
    try:
        validate(document)
    except ConfigError as error:
        return error.problems or (Problem(path=(), message="refused without a problem"),)
    return ()


def test_ten_thousand_rules() -> None:
    """A file with ten thousand rules is within the bounds, and each of its problems has its own line."""
    rule = (
        "  - {name: rule%d, match: {hosts: [api.example.com], paths: [/orders/%d], methods: [GET, HEAD]}, allow: %s}\n"
    )
    text = small() + "".join(rule % (n, n, "authenticated") for n in range(10_000))
    assert len(parse(text, file="authz.yaml").rules) == 10_001
    found = problems(text.replace("authenticated", "anybody"))
    assert len(found) == 10_000
    assert found[-1].startswith("10008: rules[10000].allow: must be ")
