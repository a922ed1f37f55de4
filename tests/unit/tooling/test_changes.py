"""Proves `check-config --diff`: what a new configuration opens or closes, evaluated by what was built of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from authz.config.clients import Throttle
from authz.config.exchange import Exchange
from authz.config.introspection import Introspection
from authz.config.issuer import Issuer
from authz.config.load import parse
from authz.config.model import Config, Resource, Tls
from authz.config.pdp import Pdp
from authz.config.revocation import Logout
from authz.config.risk import OnError, Risk
from authz.config.section import Access
from authz.config.settings import SETTINGS
from authz.config.shared_state import SharedState
from authz.config.status_list import StatusList
from authz.config.upstream_token import UpstreamToken
from authz.core.algorithms import DEFAULT_ALGORITHMS
from authz.core.policy import AccessMode, Policy, Rule
from authz.core.reasons import Rejected
from authz.core.request import Path, Target
from authz.tooling.compare.comparison import compare
from authz.tooling.compare.effects import Change, Effect
from authz.tooling.compare.rules import compare_rules, effect_of
from authz.tooling.compare.settings import EFFECT_OF
from tests.fixtures import A_RSA, B_EC, jwks, rule

BASE: Final = """version: 1
issuers:
  a: {issuer: "https://a.test", audiences: [api]}
rules:
  - {name: all, match: {paths: ["/**"]}}
"""
RULES: Final = BASE[: BASE.index("  - ")]


def differ(old: str, new: str) -> list[Change]:
    """Compare two files."""
    return compare(parse(old, file="old.yaml"), parse(new, file="new.yaml"))


def unbroken(changes: list[Change]) -> list[Change]:
    """Leave out what an Envoy with the old configuration makes of it."""
    return [change for change in changes if change.effect is not Effect.BREAKS]


def rules(*written: str) -> str:
    """A file with these rules."""
    return RULES + "".join(f"  - {each}\n" for each in written)


READ: Final = "{name: read, match: {paths: [/orders], methods: [GET]}, require: {scopes: [r]}}"
WIDE: Final = '{name: wide, match: {paths: ["/orders/**"]}, require: {scopes: [w]}}'
PUBLIC: Final = "{name: public, match: {paths: [/orders]}, allow: public}"

RULE_CHANGES: Final = {
    "nothing": (rules(READ), rules(READ), []),
    "a name": (rules(READ), rules(READ.replace("read", "get")), [("same", "rule get"), ("same", "rule read")]),
    "a rule that is new": (
        rules(READ),
        rules(READ, WIDE),
        [("widens", "any method any host /orders")],
    ),
    "a rule that is gone": (
        rules(READ, WIDE),
        rules(READ),
        [("narrows", "any method any host /orders")],
    ),
    "a rule that is covered": (rules(WIDE), rules(WIDE, READ), [("same", "rule read")]),
    "a public rule above": (
        rules(READ),
        rules(PUBLIC, READ),
        [("widens", "GET any host /orders"), ("widens", "any method any host /orders")],
    ),
    "the order": (rules(READ, WIDE), rules(WIDE, READ), [("mixed", "GET any host /orders")]),
    "an order that tells nothing": (
        rules(READ, READ.replace("read", "other").replace("/orders", "/x")),
        rules(READ.replace("read", "other").replace("/orders", "/x"), READ),
        [("same", "rule other")],
    ),
    "an accepted spelling": (
        rules(READ),
        rules(READ.replace("methods: [GET]}", "methods: [GET]}, accept: [encoded_slash]")),
        [("widens", "GET any host /orders")],
    ),
    "letter case": (
        rules(READ),
        rules(READ.replace("methods", "case_insensitive: true, methods")),
        [("widens", "GET any host /ORDERS")],
    ),
    "a host": (
        rules(READ),
        rules(READ.replace("paths", "hosts: ['*.a.test'], paths")),
        [("narrows", "GET any host /orders")],
    ),
    "a context": (
        rules(READ),
        rules(READ.replace("paths", "context: {k: v}, paths")),
        [("narrows", "GET any host /orders")],
    ),
}


@pytest.mark.parametrize(("old", "new", "expected"), RULE_CHANGES.values(), ids=RULE_CHANGES)
def test_rules(old: str, new: str, expected: list[tuple[str, str]]) -> None:
    """Requests that move to another rule are listed, each pair of rules once; so are rules that change nothing."""
    told = unbroken(differ(old, new))
    assert [(change.effect.value, change.about) for change in told] == expected


def test_every_request_of_a_pair_is_told() -> None:
    """A reviewer sees all that opens: the requests that two rules have changed between them stand one below another."""
    (change,) = differ(rules(READ), rules(READ, WIDE))
    first, *others = str(change).splitlines()
    assert first.startswith("widens   any method any host /orders: no rule, denied -> rule wide")
    assert others == ["         any method any host /orders/{any}"]
    assert change.document()["also"] == ["any method any host /orders/{any}"]


FREE: Final = rule("r", "/x")


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        (None, rule("n", "/x"), Effect.WIDENS),
        (None, rule("n", "/x", allow=AccessMode.DENY), Effect.SAME),
        (None, rule("n", "/x", allow=AccessMode.DENY, shadow=True), Effect.WIDENS),
        (FREE, rule("n", "/x", allow=AccessMode.OPTIONAL), Effect.WIDENS),
        (FREE, rule("n", "/x", allow=AccessMode.PUBLIC), Effect.WIDENS),
        (FREE, rule("n", "/x", shadow=True), Effect.WIDENS),
        (rule("n", "/x", allow=AccessMode.PUBLIC), rule("n", "/x", shadow=True), Effect.CHANGES),
        (FREE, rule("n", "/x", scopes=("a",)), Effect.NARROWS),
        (rule("n", "/x", scopes=("a", "b")), rule("n", "/x", scopes=("b",)), Effect.WIDENS),
        (rule("n", "/x", scopes=("a",)), rule("n", "/x", scopes=("b",)), Effect.MIXED),
        (rule("n", "/x", any_scope=("a",)), rule("n", "/x", any_scope=("a", "b")), Effect.WIDENS),
        (rule("n", "/x", acr=("a",)), FREE, Effect.WIDENS),
        (rule("n", "/x", max_age=60.0), rule("n", "/x", max_age=30.0), Effect.NARROWS),
        (FREE, rule("n", "/x", max_age=30.0), Effect.NARROWS),
        (rule("n", "/x", scopes=("a",)), rule("n", "/x", allow=AccessMode.OPTIONAL, scopes=("a", "b")), Effect.MIXED),
        (rule("n", "/x", issuers=frozenset({"a"})), rule("n", "/x", issuers=frozenset({"a", "b"})), Effect.WIDENS),
    ],
)
def test_two_rules(old: Rule | None, new: Rule, effect: Effect) -> None:
    """Anyone who is let through by one and not by the other decides; and the other way round it is the opposite."""
    assert effect_of(old, new) is effect
    turned = {Effect.WIDENS: Effect.NARROWS, Effect.NARROWS: Effect.WIDENS}
    assert effect_of(new, old) is turned.get(effect, effect)


@pytest.mark.parametrize(
    ("old", "new", "effect"),
    [
        ("claims: {l: [1]}", "claims: {l: [true]}", Effect.MIXED),
        ("claims: {l: [1]}", "claims: {l: [1, 2]}", Effect.WIDENS),
        ("claims: {l: [1], m: [2]}", "claims: {l: [1]}", Effect.WIDENS),
        ("all_of: {l: [1]}", "all_of: {l: [1, 2]}", Effect.NARROWS),
        ("all_of: {l: [1]}", "claims: {l: [1]}", Effect.MIXED),
    ],
)
def test_claims(old: str, new: str, effect: Effect) -> None:
    """Claims are compared by name and by typed value."""
    (change,) = differ(*(rules(f"{{name: r, require: {{{each}}}}}") for each in (old, new)))
    assert change.effect is effect


def test_conditions() -> None:
    """Of two conditions no one can tell; one that is gone opens."""
    pytest.importorskip("cel_expr_python")
    one, other, none = (
        rules(f"{{name: r, require: {{scopes: [s]{when}}}}}")
        for when in (", when: claims.sub == 'a'", ", when: claims.sub == 'b'", "")
    )
    assert [differ(*pair)[0].effect for pair in ((one, other), (one, none), (none, one))] == [
        Effect.UNKNOWN,
        Effect.WIDENS,
        Effect.NARROWS,
    ]


HOSTS: Final = ("a.test", "*.a.test", "*.b.a.test", "b.a.test")
TRIED_HOSTS: Final = ("a.test", "x.a.test", "b.a.test", "x.b.a.test", "other.test")
PATHS: Final = ("/", "/a", "/a/{i}", "/a/**", "/{i}/b", "/**", "/A/b", "/a/b/{j}", "/k", "/\u212a/b")
# Each literal of PATHS at its place in all its cases, for a rule may ignore case, and one that no rule names.
FIRST: Final = ("a", "A", "k", "K", "\u212a", "x")
SECOND: Final = ("b", "B", "x")
TRIED_SEGMENTS: Final = tuple(
    segments for places in ((), (FIRST,), (FIRST, SECOND), (FIRST, SECOND, ("x",))) for segments in product(*places)
)
METHODS: Final = ("GET", "PUT")
TARGETS: Final = tuple(
    Target(method, host, Path("/" + "/".join(parts), parts, frozenset()))
    for method, host, parts in product((*METHODS, "POST"), TRIED_HOSTS, TRIED_SEGMENTS)
)
ALLOWED: Final = (AccessMode.PUBLIC, AccessMode.AUTHENTICATED, AccessMode.DENY)


@st.composite
def written_rules(draw: st.DrawFn) -> Rule:
    """A rule over few hosts, paths and methods, so that rules meet."""
    some = st.lists(st.sampled_from(PATHS), min_size=1, max_size=2, unique=True)
    return rule(
        "",
        *draw(some),
        hosts=draw(st.lists(st.sampled_from(HOSTS), max_size=2, unique=True)),
        methods=draw(st.lists(st.sampled_from(METHODS), max_size=2, unique=True)),
        context=draw(st.sampled_from([{}, {}, {"k": "1"}, {"k": "2"}])),
        case_insensitive=draw(st.booleans()),
        allow=draw(st.sampled_from(ALLOWED)),
        scopes=(),
    )


def named(written: list[Rule]) -> Policy:
    """Give each rule a name of its own: of what it says, so that a rule that moves keeps it."""
    return Policy(replace(each, name=f"{place}-{each.match.paths[0].text}") for place, each in enumerate(written))


def decide(policy: Policy, target: Target, context: dict[str, str]) -> Rule | None:
    """Select as the server does."""
    try:
        return policy.select(target, context)[0]
    except Rejected:
        return None


B_PUBLIC: Final = rule("", "/{i}/b", allow=AccessMode.PUBLIC)
B_PUBLIC_IN_ANY_CASE: Final = rule("", "/{i}/b", allow=AccessMode.PUBLIC, case_insensitive=True)
SHUFFLED: Final = Random(0)  # noqa: S311 - shuffles what is tried


@example(old=[rule("", "/**", allow=AccessMode.PUBLIC)], new=[rule("", "/k", case_insensitive=True)], shuffle=SHUFFLED)
@example(old=[rule("", "/k", case_insensitive=True, allow=AccessMode.PUBLIC)], new=[rule("", "/k")], shuffle=SHUFFLED)
@example(old=[B_PUBLIC], new=[B_PUBLIC_IN_ANY_CASE], shuffle=SHUFFLED)  # opens /x/B, and nothing in small letters
@given(
    old=st.lists(written_rules(), min_size=1, max_size=4),
    new=st.lists(written_rules(), min_size=0, max_size=2),
    shuffle=st.randoms(use_true_random=False),
)
def test_no_request_escapes(old: list[Rule], new: list[Rule], shuffle: Any) -> None:  # noqa: ANN401 - hypothesis's own
    """Every effect that any request of a small world sees is listed, and no other: all of them are tried here."""
    after = [*old[1:], *new, *old[:1]]
    shuffle.shuffle(after)
    left, right = named(old), named(after or old)
    told = {change.effect for change in compare_rules(left, right)} - {Effect.SAME}
    pairs = {
        (id(one), id(other)): (one, other)
        for target, context in product(TARGETS, ({}, {"k": "1"}, {"k": "2"}))
        for one, other in [(decide(left, target, context), decide(right, target, context))]
    }
    assert told == {effect_of(*pair) for pair in pairs.values()} - {Effect.SAME}


def test_so_many_rules_that_not_all_is_tried() -> None:
    """Above the bound it says that it does not know."""
    old = Policy([rule(f"r{place}", f"/{place}/**") for place in range(9)])
    new = Policy([rule(f"r{place}", f"/{place}/**", scopes=("s",)) for place in range(9)])
    assert {change.effect for change in compare_rules(old, new)} == {Effect.NARROWS}
    last = list(compare_rules(old, new, max_requests=5))[-1]
    assert (last.effect, last.about) == (Effect.UNKNOWN, "rules")


CHANGED: Final = {
    "an issuer": ("issuers:\n", 'issuers:\n  b: {issuer: "https://b.test", audiences: [api]}\n', "widens", "issuers.b"),
    "an issuer's name": ("  a: {", "  z: {", "changes", "issuers.z"),
    "an audience": ("[api]", "[api, other]", "widens", "issuers.a.audiences"),
    "an algorithm": ("audiences", "algorithms: [RS256], audiences", "narrows", "issuers.a.algorithms"),
    "an ID token": ("audiences", "token_types: [at+jwt], audiences", "narrows", "issuers.a.token_types"),
    "a claim less": ("audiences", "required_claims: [exp], audiences", "widens", "issuers.a.required_claims"),
    "leeway": ("audiences", "leeway: 5m, audiences", "widens", "issuers.a.leeway"),
    "a lifetime": ("audiences", "max_lifetime: 1h, audiences", "narrows", "issuers.a.max_lifetime"),
    "a key that is blocked": ("audiences", "blocked_keys: [k], audiences", "narrows", "issuers.a.blocked_keys"),
    "another source": ("audiences", 'jwks_uri: "https://a.test/k", audiences', "unknown", "issuers.a.jwks_uri"),
    "a host": ("audiences", "fetch: {allowed_hosts: [k.test]}, audiences", "widens", "issuers.a.fetch.allowed_hosts"),
    "staleness": ("audiences", "fetch: {max_stale: 48h}, audiences", "widens", "issuers.a.fetch.max_stale"),
    "plain HTTP": ("audiences", "insecure: {http: true}, audiences", "widens", "issuers.a.insecure.http"),
    "another claim": ("audiences", "audience_claim: azp, audiences", "unknown", "issuers.a.audience_claim"),
    "a cookie": (
        "rules:",
        "token: {sources: [{header: authorization}, {cookie: c}]}\nrules:",
        "widens",
        "token.sources",
    ),
    "longer tokens": ("rules:", "token: {max_bytes: 32KiB}\nrules:", "widens", "token.max_bytes"),
    "a header": ("rules:", "identity: {headers: {x-user: sub}}\nrules:", "narrows", "identity.headers"),
    "unsafe values": ("rules:", "identity: {unsafe_values: encode}\nrules:", "widens", "identity.unsafe_values"),
    "failing open": ("rules:", "responses: {unavailable: error}\nrules:", "widens", "responses.unavailable"),
    "a document": ("rules:", 'resource: {identifier: "https://a.test"}\nrules:', "widens", "resource"),
    "shadow": ("rules:", "insecure: {shadow_all: true}\nrules:", "widens", "insecure.shadow_all"),
    "a log level": ("rules:", "telemetry: {log_level: debug}\nrules:", "changes", "telemetry.log_level"),
}


@pytest.mark.parametrize(("before", "after", "effect", "about"), CHANGED.values(), ids=CHANGED)
def test_settings(before: str, after: str, effect: str, about: str) -> None:
    """What one setting does, there and back."""
    (there,) = unbroken(differ(BASE, BASE.replace(before, after, 1)))
    (back,) = unbroken(differ(BASE.replace(before, after, 1), BASE))
    assert (there.effect.value, there.about) == (effect, about)
    assert back.effect.value == {"widens": "narrows", "narrows": "widens"}.get(effect, effect)


def test_an_identity_header_that_is_gone_opens() -> None:
    """A client's own header of that name reaches the upstream from now on; another claim in it only changes."""
    two, one, other = (
        BASE + f"identity: {{headers: {{{headers}}}}}\n"
        for headers in ("x-user: sub, x-org: org", "x-user: sub", "x-user: email")
    )
    (gone,) = differ(two, one)
    assert gone.effect is Effect.WIDENS
    assert "no longer x-org; a header that is no longer listed reaches the upstream as the client sent it" in str(gone)
    assert [change.effect for change in differ(one, other)] == [Effect.CHANGES]


def test_algorithms_that_are_written_out() -> None:
    """A list that equals the default, but is written, lets RSA keys without `alg` serve more."""
    default = list(DEFAULT_ALGORITHMS)
    written, other = (
        BASE.replace("audiences", f"algorithms: [{', '.join(names)}], audiences") for names in (default, ["PS256"])
    )
    assert [change.effect for change in differ(BASE, written)] == [Effect.WIDENS]
    assert [change.effect for change in differ(written, BASE)] == [Effect.NARROWS]
    assert {change.effect for change in differ(BASE, other)} == {Effect.WIDENS, Effect.NARROWS}


def test_keys_that_are_written_in_the_file() -> None:
    """Inline keys are compared by thumbprint, whatever their order or their ids."""
    one, both, turned = (
        BASE.replace("audiences", f"jwks: {jwks(*keys)}, audiences")
        for keys in ((A_RSA,), (A_RSA, B_EC), (B_EC, A_RSA))
    )
    assert [change.effect for change in differ(one, both)] == [Effect.WIDENS]
    assert [change.effect for change in differ(both, one)] == [Effect.NARROWS]
    assert {change.effect for change in differ(both, turned)} <= {Effect.SAME}


def leaves(section: type[BaseModel], way: str = "") -> Iterator[str]:
    """Yield the way to each key of the model that holds no section of keys; of maps and lists of sections, the map."""
    inner: dict[str, type[BaseModel]] = {
        "server.tls": Tls,
        "issuers.*.introspection": Introspection,
        "issuers.*.status_list": StatusList,
        "issuers.*.logout": Logout,
        "identity.token": UpstreamToken,
        "throttle": Throttle,
        "shared_state": SharedState,
        "risk": Risk,
        "risk.on_error": OnError,
        "identity.token.exchange": Exchange,
    }
    for name, each in section.model_fields.items():
        nested = inner.get(f"{way}{name}") or each.annotation
        if name == "rules":
            continue
        if name in {"issuers", "pdps"}:
            yield from leaves(Issuer if name == "issuers" else Pdp, f"{name}.*.")
        elif isinstance(nested, type) and issubclass(nested, BaseModel) and nested is not Resource:
            yield from leaves(nested, f"{way}{name}.")
        else:
            yield f"{way}{name}"


def test_every_key_says_what_a_change_of_it_does() -> None:
    """Each key of the model, rules aside, has an Access, and each Access is compared."""
    assert set(leaves(Config)) == {path for path, setting in SETTINGS.items() if setting.access is not None}
    assert set(EFFECT_OF) == set(Access) == {setting.access for setting in SETTINGS.values()} - {None}


ASKING: Final = """version: 1
issuers:
  a: {issuer: "https://a.test", audiences: [api]}
pdps:
  policies: {url: "https://pdp.test/access/v1/evaluation", MORE}
rules:
  - {name: all, match: {paths: ["/**"]}, require: {scopes: [r]WHAT}}
"""


def asking(what: str = ", pdp: policies", more: str = "") -> str:
    """A file with a PDP."""
    return ASKING.replace("WHAT", what).replace(", MORE", f", {more}" if more else "")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (asking(""), asking(), {("narrows", "any method any host /")}),
        (asking(), asking(""), {("widens", "any method any host /")}),
        (asking(), asking(", pdp: {name: policies, resource: {type: x}}"), {("unknown", "any method any host /")}),
        (asking(), asking(more="timeout: 2s"), {("changes", "pdps.policies.timeout")}),
        (asking(), asking(more="cache: 5s"), {("widens", "pdps.policies.cache")}),
        (asking(more="cache: 5s"), asking(), {("narrows", "pdps.policies.cache")}),
        (
            asking(),
            asking(more="id_encoding: percent"),
            {("unknown", "pdps.policies.id_encoding"), ("unknown", "any method any host /")},
        ),
        (
            asking(),
            asking(more="insecure: {allow_on_error: true}"),
            {("widens", "pdps.policies.insecure.allow_on_error"), ("unknown", "any method any host /")},
        ),
    ],
)
def test_external_decisions(old: str, new: str, expected: set[tuple[str, str]]) -> None:
    """A rule that asks is narrower; another question, or another way to ask it, cannot be compared."""
    assert {(change.effect.value, change.about) for change in unbroken(differ(old, new))} == expected
