"""Proves authz.core.policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from authz.core.claims import ClaimPath, Claims, check
from authz.core.policy import AccessMode, HostPattern, Match, PathTemplate, Policy, Rule
from authz.core.reasons import Reason, Rejected
from authz.core.request import AmbiguousEncoding, Request, parse_target
from authz.core.requirements import ClaimRequirement, Params, Requirements, require
from authz.core.token import parse_token
from tests.fixtures import ISSUER_A, T, ask, claim, issuer_a, mint, rule

TEMPLATES: dict[str, tuple[tuple[str | None, ...], tuple[str, ...], bool]] = {
    "/": ((), (), False),
    "/**": ((), (), True),
    "/orders": (("orders",), (), False),
    "/orders/": (("orders",), (), False),
    "/X": (("X",), (), False),
    "/orders/**": (("orders",), (), True),
    "/orders/{id}": (("orders", None), ("id",), False),
    "/{a}/x/{b_2}/**": ((None, "x", None), ("a", "b_2"), True),
    "/a b/é": (("a b", "é"), (), False),
}
NO_TEMPLATES = {
    "empty": "",
    "relative": "orders",
    "query": "/a?b",
    "fragment": "/a#b",
    "escape": "/a%20b",
    "backslash": "/a\\b",
    "semicolon": "/a;b",
    "control-character": "/a\nb",
    "dot": "/a/./b",
    "dot-dot": "/a/../b",
    "empty-segment": "/a//b",
    "star": "/a/*",
    "star-inside": "/a/b*c",
    "rest-inside": "/a/**/b",
    "rest-with-a-slash": "/a/**/",
    "part-of-a-segment": "/a/x{id}",
    "unclosed": "/a/{id",
    "nameless": "/a/{}",
    "name-with-a-dash": "/a/{b-c}",
    "name-twice": "/{a}/{a}",
}


@pytest.mark.parametrize(("text", "parts"), TEMPLATES.items())
def test_template(text: str, parts: tuple[tuple[str | None, ...], tuple[str, ...], bool]) -> None:
    """A template is read into segments, parameters and a final rest."""
    template = PathTemplate.parse(text)
    assert (template.segments, template.params, template.prefix) == parts


def test_template_keeps_its_text() -> None:
    """Anyone who shows a rule shows its paths as they were written."""
    assert PathTemplate.parse("/orders/{id}/").text == "/orders/{id}/"


@pytest.mark.parametrize("text", NO_TEMPLATES.values(), ids=NO_TEMPLATES)
def test_no_template(text: str) -> None:
    """What could never match, or would match something else than it says, is refused at load."""
    with pytest.raises(ValueError, match=r"path|segment|parameter"):
        PathTemplate.parse(text)


@pytest.mark.parametrize("text", ["//a", "/a//", "//", "//**", "/a//**"])
def test_empty_segments_at_the_ends(text: str) -> None:
    """An empty segment at either end is as much a mistake as one inside."""
    with pytest.raises(ValueError, match="empty"):
        PathTemplate.parse(text)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("api.example.com", HostPattern("api.example.com", wildcard=False)),
        ("API.example.com.", HostPattern("api.example.com", wildcard=False)),
        ("*.example.com", HostPattern("example.com", wildcard=True)),
        ("[::1]", HostPattern("[::1]", wildcard=False)),
    ],
)
def test_host_pattern(text: str, pattern: HostPattern) -> None:
    """A host is a name or an address, or every name below one; it is written as it is read."""
    assert HostPattern.parse(text) == pattern
    assert HostPattern.parse(str(pattern)) == pattern


@pytest.mark.parametrize("text", ["", "*", "*.", "a:443", "a.*.b", "*a.test", "https://a", "a/b", "a b", "a..b", "é"])
def test_no_host_pattern(text: str) -> None:
    """Ports, schemes and stars elsewhere are refused at load."""
    with pytest.raises(ValueError, match="a host is"):
        HostPattern.parse(text)


# Matching


def chosen(rules: list[Rule], request: Request) -> tuple[str, Params] | Reason:
    """Return the name of the rule that speaks, with its parameters, or why none does."""
    try:
        found, params = Policy(rules).select(parse_target(request), request.context)
    except Rejected as rejected:
        return rejected.reason
    return found.name, params


NONE = Reason.POLICY_DENIED
PATHS: dict[str, tuple[str, str, bool]] = {
    "same": ("/orders", "/orders", True),
    "request-with-a-slash": ("/orders", "/orders/", True),
    "rule-with-a-slash": ("/orders/", "/orders", True),
    "encoded-letter": ("/orders", "/%6frders", True),
    "decoded-space": ("/a b", "/a%20b", True),
    "decoded-unicode": ("/é", "/%C3%A9", True),
    "query": ("/orders", "/orders?x=/admin", True),
    "longer": ("/orders", "/orders/5", False),
    "shorter": ("/orders/new", "/orders", False),
    "prefix-of-a-segment": ("/orders", "/orders2", False),
    "other-case": ("/orders", "/Orders", False),
    "root": ("/", "/", True),
    "root-is-no-prefix": ("/", "/a", False),
    "parameter": ("/orders/{id}", "/orders/5", True),
    "parameter-with-a-slash-behind": ("/orders/{id}", "/orders/5/", True),
    "parameter-missing": ("/orders/{id}", "/orders/", False),
    "parameter-is-one-segment": ("/orders/{id}", "/orders/5/6", False),
    "rest": ("/orders/**", "/orders/5/6", True),
    "rest-of-nothing": ("/orders/**", "/orders", True),
    "rest-of-nothing-with-a-slash": ("/orders/**", "/orders/", True),
    "rest-of-another": ("/orders/**", "/orders2", False),
    "rest-of-everything": ("/**", "/", True),
    "rest-after-a-parameter": ("/{tenant}/x/**", "/acme/x/y/z", True),
    "rest-after-a-missing-parameter": ("/{tenant}/**", "/", False),
}


@pytest.mark.parametrize(("template", "path", "matches"), PATHS.values(), ids=PATHS)
def test_path(template: str, path: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """Paths are compared by decoded segments, a trailing slash aside."""
    found = chosen([rule("r", template)], ask(path=path))
    assert (found != NONE) is matches


HOSTS: dict[str, tuple[str, str, bool]] = {
    "same": ("api.test", "api.test", True),
    "case-port-and-dot": ("api.test", "API.test.:443", True),
    "another": ("api.test", "www.test", False),
    "below": ("api.test", "x.api.test", False),
    "wildcard": ("*.api.test", "x.api.test", True),
    "wildcard-two-below": ("*.api.test", "x.y.api.test", True),
    "wildcard-itself": ("*.api.test", "api.test", False),
    "wildcard-without-dot": ("*.api.test", "xapi.test", False),
    "wildcard-of-the-last-label": ("*.test", "api.test", True),
    "wildcard-of-nothing": ("*.test", "test", False),
    "address": ("[::1]", "[::1]:80", True),
}


@pytest.mark.parametrize(("pattern", "host", "matches"), HOSTS.values(), ids=HOSTS)
def test_host(pattern: str, host: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """Hosts are compared without case, port and final dot; a wildcard asks for at least one more label."""
    assert (chosen([rule("r", "/**", hosts=[pattern])], ask(host=host)) != NONE) is matches


@pytest.mark.parametrize(("method", "matches"), [("GET", True), ("gett", False), ("HEAD", False), ("PROPFIND", False)])
def test_method(method: str, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """Methods are compared with case (RFC 9110 section 9.1), and none implies another."""
    assert (chosen([rule("r", "/**", methods=["GET", "POST"])], ask(method=method)) != NONE) is matches


@pytest.mark.parametrize(
    ("context", "matches"),
    [({"k": "v"}, True), ({"k": "v", "l": "w"}, True), ({"k": "x"}, False), ({}, False), ({"K": "v"}, False)],
)
def test_context(context: dict[str, str], matches: bool) -> None:  # noqa: FBT001 - a column of the table
    """Every entry of a rule's context must be there, byte for byte."""
    assert (chosen([rule("r", "/**", context={"k": "v"})], ask(context=context)) != NONE) is matches


def test_headers_are_no_context() -> None:
    """A client's header is never taken for what the operator set."""
    request = ask(headers={"k": "v", "context_extensions": "k=v", "x-original-url": "/public"})
    assert chosen([rule("r", "/**", context={"k": "v"})], request) == NONE


@pytest.mark.parametrize("path", ["/Orders/5", "/ORDERS/5", "/orders/5"])
def test_case_may_be_ignored(path: str) -> None:
    """A rule may ignore case; its parameters keep theirs, and rules beside it that do not ignore it still hold."""
    rules = [rule("fold", "/Orders/{id}", case_insensitive=True), rule("exact", "/**")]
    assert chosen(rules, ask(path=path)) == ("fold", {"id": "5"})
    assert chosen(rules[::-1], ask(path=path)) == ("exact", {})
    assert chosen([rule("fold", "/x/{id}", case_insensitive=True)], ask(path="/X/aB")) == ("fold", {"id": "aB"})


@pytest.mark.parametrize(
    ("allow", "shadow", "folds"),
    [
        (AccessMode.AUTHENTICATED, False, True),
        (AccessMode.DENY, False, True),
        (AccessMode.OPTIONAL, False, False),
        (AccessMode.PUBLIC, False, False),
        (AccessMode.AUTHENTICATED, True, False),
    ],
)
@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/api", "/ap%C4%B0"),
        ("/api", "/AP%C4%B1"),
        ("/api", "/api%CC%87"),
        ("/sub", "/%C5%BFub"),
        ("/Key", "/%E2%84%AAey"),
        ("/\u00e9t\u00e9", "/%C3%89T%C3%89"),
    ],
)
def test_letters_beyond_ascii(path: str, asked: str, *, allow: AccessMode, shadow: bool, folds: bool) -> None:
    """Only a rule that asks for a token takes in what Caddy, Java or Unicode hold for the same letters."""
    rules = [rule("fold", path, case_insensitive=True, allow=allow, shadow=shadow), rule("rest", "/**")]
    assert chosen(rules, ask(path=asked)) == ("fold" if folds else "rest", {})
    assert chosen(rules, ask(path=path.upper() if path.isascii() else "/x"))[0] == (
        "fold" if path.isascii() else "rest"
    )


def test_letter_case_counts_unless_a_rule_says_otherwise() -> None:
    """How a rule compares segments is its own to say, for anyone who compares rules."""
    assert rule("r", "/**").fold("Ab\u0130") == "Ab\u0130"
    assert rule("r", "/**", case_insensitive=True).fold("Ab\u0130") == "abi"
    assert rule("r", "/**", case_insensitive=True, allow=AccessMode.PUBLIC).fold("Ab\u0130") == "ab\u0130"


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["first", "second"], "first"), (["second", "first"], "second")],
)
def test_first_match_decides(names: list[str], expected: str) -> None:
    """Order is all that counts between rules that match: not length, not exactness, not the host."""
    rules = {
        "first": rule("first", "/**", hosts=["*.test"]),
        "second": rule("second", "/items/{id}", hosts=["api.test"], methods=["GET"]),
    }
    assert chosen([rules[name] for name in names], ask()) == (expected, {} if expected == "first" else {"id": "1"})


def test_first_match_over_every_kind_of_host() -> None:
    """A rule for all hosts, for a wildcard and for one host take turns by their position alone."""
    kinds = [("any", ()), ("far", ("*.c.test",)), ("near", ("*.b.c.test",)), ("exact", ("a.b.c.test",))]
    for turn in range(len(kinds)):
        order = kinds[turn:] + kinds[:turn]
        rules = [rule(name, "/**", hosts=hosts) for name, hosts in order]
        assert chosen(rules, ask(host="a.b.c.test")) == (order[0][0], {})


def test_rule_that_does_not_speak_is_passed_over() -> None:
    """A rule whose method or context does not match leaves the decision to the next one."""
    rules = [rule("post", "/**", methods=["POST"]), rule("ctx", "/**", context={"k": "v"}), rule("last", "/items/1")]
    assert chosen(rules, ask()) == ("last", {})


def test_several_paths_and_hosts() -> None:
    """A rule matches by any of its paths, at any of its hosts."""
    rules = [rule("r", "/a", "/items/{id}", hosts=["x.test", "api.test"])]
    assert chosen(rules, ask()) == ("r", {"id": "1"})
    assert chosen(rules, ask(path="/a", host="x.test")) == ("r", {})
    assert chosen(rules, ask(host="y.test")) == NONE


def test_parameters_are_decoded() -> None:
    """A parameter is the decoded segment, and may be whatever a segment may be."""
    assert chosen([rule("r", "/{a}/{b}")], ask(path="/x%20y/%3F")) == ("r", {"a": "x y", "b": "?"})


@pytest.mark.parametrize(
    ("path", "spelling", "params"),
    [
        ("/f/a%2Fb", AmbiguousEncoding.ENCODED_SLASH, {"id": "a/b"}),
        ("/f/a;v=1", AmbiguousEncoding.SEMICOLON, {"id": "a;v=1"}),
    ],
)
def test_accepted_spelling_is_data(path: str, spelling: AmbiguousEncoding, params: Params) -> None:
    """A rule that accepts a spelling sees it inside one segment; one that does not refuses it."""
    accepting = rule("r", "/f/{id}", accept=frozenset({spelling}))
    assert chosen([accepting], ask(path=path)) == ("r", params)
    assert chosen([rule("r", "/f/{id}")], ask(path=path)) is Reason.PATH_AMBIGUOUS
    others = rule("r", "/f/{id}", accept=frozenset(AmbiguousEncoding) - {spelling})
    assert chosen([others], ask(path=path)) is Reason.PATH_AMBIGUOUS


def test_empty_segment_is_no_parameter() -> None:
    """Where double slashes are accepted, an empty segment fills no parameter, and a rest takes it."""
    accept = frozenset({AmbiguousEncoding.DOUBLE_SLASH})
    assert chosen([rule("r", "/f/{id}", accept=accept)], ask(path="/f//")) is Reason.PATH_AMBIGUOUS
    assert chosen([rule("r", "/f/**", accept=accept)], ask(path="/f//x")) == ("r", {})


def test_odd_spelling_without_a_rule_is_ambiguous() -> None:
    """Where no rule speaks there is no one to accept an odd spelling."""
    assert chosen([rule("r", "/a")], ask(path="/b;c")) is Reason.PATH_AMBIGUOUS


def test_no_rule_matches() -> None:
    """No match denies."""
    assert chosen([rule("r", "/a")], ask(path="/b")) == NONE


def test_no_rules_at_all() -> None:
    """A policy without rules cannot be built."""
    with pytest.raises(ValueError, match="at least one rule"):
        Policy([])


# Requirements


@dataclass(frozen=True)
class Says:
    """A condition that answers, or raises, as configured."""

    answer: Any

    def holds(self, request: Request, params: Params, claims: Claims) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: bool = self.answer
        return answer


def refused(members: Mapping[str, object], **wanted: Any) -> Rejected | None:  # noqa: ANN401 - fields of Requirements
    """Ask claims with *members* for what is *wanted*, and return the refusal, or None."""
    assert ISSUER_A.keys is not None
    signed = ISSUER_A.keys.verify(parse_token(mint(claims=members)), ["RS256"])
    claims = check(signed, ISSUER_A.rules, T)
    try:
        require(rule("r", "/**", **wanted).requirements, claims, ISSUER_A, ask(), {}, T)
    except Rejected as rejected:
        return rejected
    return None


STEP_UP, SCOPE, AUDIENCE = Reason.STEP_UP_REQUIRED, Reason.INSUFFICIENT_SCOPE, Reason.AUDIENCE_MISMATCH
TRUE = True
ROLES = {"realm": {"roles": ["editor", 7, {"x": 1}]}, "n": 1, "f": 1.5, "t": True, "s": "1", "z": None, "o": {"a": 1}}
REQUIREMENTS: dict[str, tuple[Mapping[str, object], Mapping[str, object], Reason | None]] = {
    "nothing": ({}, {}, None),
    "issuer": ({}, {"issuers": frozenset({"a", "x"})}, None),
    "another-issuer": ({}, {"issuers": frozenset({"b"})}, NONE),
    "audience": ({"aud": ["api", "x"]}, {"audiences": frozenset({"x", "y"})}, None),
    "another-audience": ({"aud": ["api", "x"]}, {"audiences": frozenset({"y"})}, AUDIENCE),
    "scopes": ({"scope": "a b c"}, {"scopes": ("a", "b")}, None),
    "one-scope-missing": ({"scope": "a"}, {"scopes": ("a", "b")}, SCOPE),
    "no-scope": ({}, {"scopes": ("a",)}, SCOPE),
    "scope-of-a-longer-name": ({"scope": "ab"}, {"scopes": ("a",)}, SCOPE),
    "scope-in-other-case": ({"scope": "A"}, {"scopes": ("a",)}, SCOPE),
    "any-scope": ({"scope": "b"}, {"any_scope": ("a", "b")}, None),
    "no-scope-of-any": ({"scope": "c"}, {"any_scope": ("a", "b")}, SCOPE),
    "all-and-any": ({"scope": "a c"}, {"scopes": ("a",), "any_scope": ("b", "c")}, None),
    "all-but-not-any": ({"scope": "a"}, {"scopes": ("a",), "any_scope": ("b", "c")}, SCOPE),
    "claim-in-a-list": (ROLES, {"claims": (claim("realm.roles", "admin", "editor"),)}, None),
    "claim-not-in-the-list": (ROLES, {"claims": (claim("realm.roles", "admin"),)}, NONE),
    "claim-number-in-a-list": (ROLES, {"claims": (claim("realm.roles", 7),)}, None),
    "claim-number-as-text": (ROLES, {"claims": (claim("realm.roles", "7"),)}, NONE),
    "claim-text": (ROLES, {"claims": (claim("s", "1"),)}, None),
    "claim-text-as-number": (ROLES, {"claims": (claim("s", 1),)}, NONE),
    "claim-number": (ROLES, {"claims": (claim("n", 1),)}, None),
    "claim-number-with-a-fraction-of-zero": (ROLES, {"claims": (claim("n", 1.0),)}, None),
    "claim-number-as-truth": (ROLES, {"claims": (claim("n", TRUE),)}, NONE),
    "claim-truth": (ROLES, {"claims": (claim("t", TRUE),)}, None),
    "claim-truth-as-number": (ROLES, {"claims": (claim("t", 1),)}, NONE),
    "claim-truth-as-text": (ROLES, {"claims": (claim("t", "true"),)}, NONE),
    "claim-missing": (ROLES, {"claims": (claim("x", "1"),)}, NONE),
    "claim-null": (ROLES, {"claims": (claim("z", "null"),)}, NONE),
    "claim-object": (ROLES, {"claims": (claim("o", "a"),)}, NONE),
    "claim-without-values": (ROLES, {"claims": (claim("s"),)}, NONE),
    "claim-without-values-every": (ROLES, {"claims": (claim("s", every=True),)}, NONE),
    "every-value": ({"g": ["a", "b", "c"]}, {"claims": (claim("g", "a", "b", every=True),)}, None),
    "not-every-value": ({"g": ["a"]}, {"claims": (claim("g", "a", "b", every=True),)}, NONE),
    "two-claims": (ROLES, {"claims": (claim("s", "1"), claim("n", 1))}, None),
    "one-of-two-claims": (ROLES, {"claims": (claim("s", "1"), claim("n", 2))}, NONE),
    "acr": ({"acr": "mfa"}, {"acr": ("mfa", "hw")}, None),
    "another-acr": ({"acr": "pwd"}, {"acr": ("mfa",)}, STEP_UP),
    "no-acr": ({}, {"acr": ("mfa",)}, STEP_UP),
    "acr-list": ({"acr": ["mfa"]}, {"acr": ("mfa",)}, STEP_UP),
    "amr": ({"amr": ["pwd", "hwk"]}, {"amr": ("hwk", "otp")}, None),
    "another-amr": ({"amr": ["pwd"]}, {"amr": ("hwk",)}, STEP_UP),
    "amr-text": ({"amr": "hwk"}, {"amr": ("hwk",)}, STEP_UP),
    "no-amr": ({}, {"amr": ("hwk",)}, STEP_UP),
    "age": ({"auth_time": T - 60}, {"max_age": 60.0}, None),
    "age-over": ({"auth_time": T - 61}, {"max_age": 60.0}, STEP_UP),
    "age-of-the-future": ({"auth_time": T + 1}, {"max_age": 60.0}, STEP_UP),
    "age-now": ({"auth_time": T}, {"max_age": 0.0}, None),
    "age-text": ({"auth_time": str(T)}, {"max_age": 60.0}, STEP_UP),
    "age-truth": ({"auth_time": True}, {"max_age": 1e12}, STEP_UP),
    "age-missing": ({}, {"max_age": 60.0}, STEP_UP),
    "condition": ({}, {"condition": Says(answer=True)}, None),
    "condition-not-met": ({}, {"condition": Says(answer=False)}, NONE),
    "condition-that-answers-something-else": ({}, {"condition": Says("yes")}, NONE),
    "condition-that-fails": ({}, {"condition": Says(KeyError("claims"))}, NONE),
    "condition-that-goes-too-deep": ({}, {"condition": Says(RecursionError())}, NONE),
    # order of a refusal
    "step-up-before-scope": ({}, {"acr": ("mfa",), "scopes": ("a",)}, STEP_UP),
    "scope-before-claims": ({}, {"scopes": ("a",), "claims": (claim("x", "1"),)}, SCOPE),
    "claims-before-audience": ({}, {"claims": (claim("x", "1"),), "audiences": frozenset({"y"})}, NONE),
}


@pytest.mark.parametrize(("members", "wanted", "expected"), REQUIREMENTS.values(), ids=REQUIREMENTS)
def test_requirement(members: Mapping[str, object], wanted: Mapping[str, object], expected: Reason | None) -> None:
    """All that a rule asks must hold, compared with type; the first thing that does not is the reason."""
    rejected = refused(members, **wanted)
    assert (rejected and rejected.reason) == expected


def test_refusal_says_what_would_have_sufficed() -> None:
    """A refusal names the scopes, the acr values and the age that were asked for."""
    scope = refused({}, scopes=("a", "b"))
    step_up = refused({}, acr=("mfa", "hw"), max_age=900.5)
    assert scope is not None
    assert step_up is not None
    assert (scope.scopes, step_up.acr_values, step_up.max_age) == (("a", "b"), ("mfa", "hw"), 900)
    either = refused({}, any_scope=("a", "b"))
    assert either is not None
    assert either.scopes == ("a", "b")


def test_refusal_names_the_scopes_that_are_missing() -> None:
    """With all of the scopes, and none of the alternatives, the challenge names them (RFC 6750 section 3.1)."""
    rejected = refused({"scope": "a"}, scopes=("a",), any_scope=("b", "c"))
    assert rejected is not None
    assert set(rejected.scopes) >= {"b", "c"}


def test_leeway_of_the_issuer_counts_for_the_age() -> None:
    """The issuer's clock may be off for auth_time as much as for exp."""
    lenient = issuer_a(leeway=5)
    assert lenient.keys is not None
    for auth_time, good in ((T - 65, True), (T - 66, False), (T + 5, True), (T + 6, False)):
        signed = lenient.keys.verify(parse_token(mint(auth_time=auth_time)), ["RS256"])
        claims = check(signed, lenient.rules, T)
        try:
            require(rule("r", "/**", max_age=60.0).requirements, claims, lenient, ask(), {}, T)
        except Rejected:
            assert not good
        else:
            assert good


def test_condition_sees_what_it_needs() -> None:
    """A condition is given the request, the path's parameters and the claims."""
    seen: list[object] = []

    class Watches:
        def holds(self, request: Request, params: Params, claims: Claims) -> bool:
            seen.extend([request.path, params, claims.subject])
            return True

    signed = ISSUER_A.keys.verify(parse_token(mint()), ["RS256"]) if ISSUER_A.keys else None
    assert signed
    require(
        rule("r", "/**", condition=Watches()).requirements,
        check(signed, ISSUER_A.rules, T),
        ISSUER_A,
        ask(),
        {"id": "1"},
        T,
    )
    assert seen == ["/items/1", {"id": "1"}, "bob"]


def test_defaults() -> None:
    """A rule without a word asks for a good token and nothing more, with case, in earnest, and accepts no odd path."""
    bare = Rule(name="r", match=Match(paths=()))
    assert (bare.allow, bare.requirements, bare.accept, bare.shadow) == (
        AccessMode.AUTHENTICATED,
        Requirements(),
        frozenset(),
        False,
    )
    assert (bare.match.hosts, bare.match.methods, bare.match.context) == ((), frozenset(), {})
    assert bare.match.case_insensitive is False
    assert ClaimRequirement("sub", ClaimPath(("sub",)), ("a", "b")).every is False


@pytest.mark.parametrize(
    ("made", "folded"),
    [
        (rule("exact", "/Api"), "Ap\u0130"),
        (rule("asks", "/Api", case_insensitive=True), "api"),
        (rule("public", "/Api", case_insensitive=True, allow=AccessMode.PUBLIC), "ap\u0130"),
    ],
    ids=lambda each: each.name if isinstance(each, Rule) else "",
)
def test_a_rule_says_how_it_compares_segments(made: Rule, folded: str) -> None:
    """As they are; in every letter where a token is asked for; and in ASCII letters alone where none is."""
    assert made.fold("Ap\u0130") == folded
