"""Proves authz.config.diagnostics.overlaps: what rules do to each other."""

from __future__ import annotations

from string import Template

import pytest

from authz.config.diagnostics.warnings import warnings
from authz.config.load import load, parse
from tests.unit.config.sample import SAMPLE

HEAD = """version: 1
issuers:
  a: {issuer: "https://a.test", audiences: [x]}
"""
SECOND = '  b: {issuer: "https://b.test", audiences: [x]}\n'


def analyse(*rules: str, issuers: str = "", more: str = "") -> list[str]:
    """Return the warnings about *rules*, each written as `name | the rest of a flow mapping`."""
    written = "".join("  - {{name: {}, {}}}\n".format(*rule.split(" | ")) for rule in rules)
    return [str(warning) for warning in warnings(parse(f"{HEAD}{issuers}rules:\n{written}{more}", file="f"))]


WRITE = "write | match: {paths: [/orders], methods: [POST]}, require: {scopes: [w]}"

DEAD = {
    "the same": ("one | match: {paths: [/a]}", "two | match: {paths: [/a]}"),
    "a trailing slash": ("one | match: {paths: [/a]}", "two | match: {paths: [/a/]}"),
    "a parameter": ("one | match: {paths: ['/{x}']}", "two | match: {paths: [/a]}"),
    "a parameter by another name": ("one | match: {paths: ['/{x}']}", "two | match: {paths: ['/{y}']}"),
    "a tree": ("one | match: {paths: ['/a/**']}", "two | match: {paths: ['/a/{b}/**', /a]}"),
    "everything": ("one | allow: authenticated", "two | match: {hosts: [h.test], methods: [GET]}"),
    "fewer methods": ("one | match: {paths: [/a], methods: [GET, PUT]}", "two | match: {paths: [/a], methods: [PUT]}"),
    "a host": ("one | match: {hosts: ['*.x.test']}", "two | match: {hosts: [a.b.x.test, '*.c.x.test']}"),
    "a context": ("one | match: {paths: [/a]}", "two | match: {paths: [/a], context: {k: v}}"),
    "another letter case": ("one | match: {paths: [/A], case_insensitive: true}", "two | match: {paths: [/a]}"),
}
ALIVE = {
    "deeper": ("one | match: {paths: [/a]}", "two | match: {paths: ['/a/**']}"),
    "a name where one has a parameter": ("one | match: {paths: [/a]}", "two | match: {paths: ['/{x}']}"),
    "an empty rest": ("one | match: {paths: ['/a/{x}/**']}", "two | match: {paths: ['/a/**']}"),
    "another method": ("one | match: {paths: [/a], methods: [GET]}", "two | match: {paths: [/a], methods: [GET, PUT]}"),
    "any method": ("one | match: {paths: [/a], methods: [GET]}", "two | match: {paths: [/a]}, require: {scopes: [w]}"),
    "the domain itself": ("one | match: {hosts: ['*.x.test']}", "two | match: {hosts: [x.test]}"),
    "a context that it has not": (
        "one | match: {paths: [/a], context: {k: v}}",
        "two | match: {paths: [/a], context: {k: w}}",
    ),
    "letter case": ("one | match: {paths: [/a]}", "two | match: {paths: [/A]}"),
    "letter case of the second": ("one | match: {paths: [/a]}", "two | match: {paths: [/a], case_insensitive: true}"),
    "part of it": ("one | match: {paths: [/a]}", "two | match: {paths: [/a, /b]}"),
}


@pytest.mark.parametrize("rules", DEAD.values(), ids=DEAD)
def test_never_matches(rules: tuple[str, ...]) -> None:
    """A rule for which another above speaks in every case is reported."""
    assert analyse(*rules) == ["rules[1]: can never match: it is shadowed by 'one' above"]


@pytest.mark.parametrize("rules", ALIVE.values(), ids=ALIVE)
def test_may_match(rules: tuple[str, ...]) -> None:
    """A rule that speaks for one request at least is not reported."""
    assert analyse(*rules) == []


def test_never_matches_several_together() -> None:
    """Rules above may share the work; a public one among them is named as what it is."""
    assert analyse(
        "read | match: {paths: ['/**'], hosts: [h.test], methods: [GET]}, allow: public",
        "write | match: {paths: [/a], methods: [POST]}",
        "both | match: {paths: [/a], hosts: [h.test], methods: [GET, POST]}",
    ) == [
        (
            "rules[2]: can never match: it is shadowed by 'read', 'write' above "
            "(and the requests that it protects are public)"
        )
    ]


FALLS = {
    "another method": ("'any'", "another method", "any | match: {paths: [/orders]}"),
    "any method of everything": (
        "'any'",
        "a deeper path or another letter case or another method",
        "any | match: {paths: ['/**']}",
    ),
    "to a public rule": (
        "'any'",
        "another letter case or another method",
        "any | match: {paths: ['/{x}'], hosts: [h.test]}, allow: public",
    ),
    "to a shadow": ("'any'", "another method", "any | match: {paths: [/orders]}, require: {scopes: [w]}, shadow: true"),
    "to a shadow that would allow nobody": (
        "'any'",
        "another method",
        "any | match: {paths: [/orders]}, allow: deny, shadow: true",
    ),
    "to another scope": ("'any'", "another method", "any | match: {paths: [/orders]}, require: {scopes: [r]}"),
    "letter case": ("'any'", "another letter case", "any | match: {paths: ['/{x}'], methods: [POST]}"),
    "depth": ("'any'", "a deeper path", "any | match: {paths: ['/orders/**'], methods: [POST]}"),
    "letter case that it does not mind": (
        "'any'",
        "another letter case",
        "any | match: {paths: [/Orders], methods: [POST], case_insensitive: true}",
    ),
    "a spelling": (
        "'any'",
        "a deeper path or an ambiguous path encoding that it accepts or another letter case",
        "any | match: {paths: ['/**'], methods: [POST]}, accept: [semicolon]",
    ),
}


@pytest.mark.parametrize(("name", "ways", "below"), FALLS.values(), ids=FALLS)
def test_falls_through(name: str, ways: str, below: str) -> None:
    """A rule below that takes what misses this one by little, and asks less, is reported with the ways to it."""
    write = WRITE.replace("match: {", "match: {hosts: [h.test], ") if "hosts: [h.test]" in below else WRITE
    found = [warning for warning in analyse(write, below) if "shadow: " not in warning]
    fold = "set match.case_insensitive: true" if "letter case" in ways else ""
    tree = "write /orders/**" if "deeper" in ways else ""
    own = {"another letter case", "a deeper path"}
    guard = "add a rule between them with allow: deny for the rest" if set(ways.split(" or ")) - own else ""
    mend = "; ".join(filter(None, (fold, tree, guard)))
    assert found == [f"rules[0]: weaker-fallthrough: with {ways}, {name} below decides, which requires less ({mend})"]


STANDS = {
    "asks the same": "any | match: {paths: ['/**']}, require: {scopes: [w]}",
    "asks more": "any | match: {paths: ['/**']}, require: {scopes: [w, x], issuers: [a]}",
    "nobody": "any | match: {paths: ['/**']}, allow: deny",
    "other methods in so many words": "any | match: {paths: ['/**'], methods: [GET]}",
    "another path": "any | match: {paths: ['/other/**']}",
    "a part of it": "any | match: {paths: ['/orders/{id}']}",
    "another host": "any | match: {hosts: [h.test], paths: [/orders]}",
    "the same path and method": "any | match: {paths: [/x], methods: [POST]}",
}


@pytest.mark.parametrize("below", STANDS.values(), ids=STANDS)
def test_does_not_fall_through(below: str) -> None:
    """What asks no less, or is another matter in so many words, is not reported."""
    assert analyse(WRITE, below) == []


ELSEWHERE = {
    "on a host that the rule does not name": (
        ("in | match: {paths: ['/api/**']}", "site | match: {hosts: [h.test], methods: [GET]}, allow: public"),
        "another letter case on h.test, 'site'",
    ),
    "on a host below its wildcard": (
        ("in | match: {hosts: ['*.test'], paths: [/a]}", "site | match: {hosts: ['*.h.test']}, allow: public"),
        "a deeper path or another letter case on *.h.test, 'site'",
    ),
    "on the second of its hosts": (
        ("in | match: {hosts: [g.test, h.test], paths: ['/a/**']}", "site | match: {hosts: [h.test]}, allow: public"),
        "another letter case, 'site'",
    ),
    "beside the second of its paths": (
        ("in | match: {paths: [/a, /b]}", "site | match: {paths: ['/b/**']}, allow: public"),
        "a deeper path, 'site'",
    ),
    "below a guard for another method": (
        (
            "in | match: {paths: ['/a/{id}'], case_insensitive: true}",
            "guard | match: {paths: ['/a/**'], methods: [GET], case_insensitive: true}, allow: deny",
            "site | match: {hosts: [h.test]}, allow: public",
        ),
        "a deeper path or an empty last segment on h.test, 'site'",
    ),
    "below a guard on another host": (
        (
            "in | match: {paths: ['/a/{id}'], case_insensitive: true}",
            "guard | match: {hosts: [g.test], paths: ['/a/**'], case_insensitive: true}, allow: deny",
            "site | match: {hosts: [h.test]}, allow: public",
        ),
        "a deeper path or an empty last segment on h.test, 'site'",
    ),
}


@pytest.mark.parametrize(("rules", "said"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_falls_through_wherever_it_is(rules: tuple[str, ...], said: str) -> None:
    """What misses a rule is found on each of its hosts and paths, and on hosts that only the weaker rule names."""
    (found,) = analyse(*rules)
    assert found.startswith(f"rules[0]: weaker-fallthrough: with {said} below decides, which requires less")


def test_each_way_is_named_with_the_first_rule_that_it_leads_to() -> None:
    """Another letter case reaches one rule, a deeper path another: both are named."""
    rules = ("in | match: {paths: ['/a/{id}']}", "one | match: {paths: ['/{x}/{id}']}", "two | match: {paths: ['/**']}")
    first, second = analyse(*(f"{rule}{'' if rule is rules[0] else ', allow: optional'}" for rule in rules))
    assert "with another letter case, 'one' below" in first
    assert "with a deeper path or an empty last segment, 'two' below" in second


def test_a_guard_between() -> None:
    """A rule between the two that stops what misses the first leaves nothing to report."""
    guard = "guard | match: {paths: ['/orders/**'], case_insensitive: true}, allow: deny"
    assert analyse(WRITE, guard, "any | match: {paths: ['/**']}") == []
    half = "guard | match: {paths: ['/orders/**']}, allow: deny"
    warning, _ = analyse(WRITE, half, "any | match: {paths: ['/**']}")
    assert "with another letter case, 'any'" in warning


ITEM = "item | match: {paths: ['/orders/{id}'], methods: [DELETE], case_insensitive: true}, require: {scopes: [w]}"
REST = "rest | match: {paths: ['/**']}, allow: public"
SERVED_ELSEWHERE = {
    "both": ((), "a deeper path or an empty last segment or another method"),
    "guarded above": (
        (
            "deeper | match: {paths: ['/orders/{id}/{x}/**'], case_insensitive: true}, allow: deny",
            "list | match: {paths: [/orders], case_insensitive: true}, require: {scopes: [w]}",
        ),
        "another method",
    ),
    "a guard for another method": (
        ("deeper | match: {paths: ['/orders/{id}/{x}/**'], methods: [GET]}, allow: deny",),
        "a deeper path or an empty last segment or another method",
    ),
    "a guard that asks less": (
        ("list | match: {paths: [/orders], methods: [DELETE]}",),
        "a deeper path or an empty last segment or another method",
    ),
}


@pytest.mark.parametrize(("above", "ways"), SERVED_ELSEWHERE.values(), ids=SERVED_ELSEWHERE)
def test_what_frameworks_serve_from_the_same_route(above: tuple[str, ...], ways: str) -> None:
    """Echo serves /orders/7/items, and Fastify /orders/, by the route of /orders/{id}: both are named."""
    mine = f"rules[{len(above)}]: weaker-fallthrough: "
    (found,) = [each for each in analyse(*above, ITEM, REST) if each.startswith(mine)]
    assert f"with {ways}, 'rest' below" in found
    assert ("write /orders/**" in found) is ("deeper" in ways)


def test_a_tree_is_its_own_guard() -> None:
    """The fix that is offered leaves nothing to report."""
    tree = ITEM.replace("/orders/{id}", "/orders/**").replace(", methods: [DELETE]", "")
    assert [each for each in analyse(tree, REST) if "weaker" in each] == []


def test_hosts_and_context_fall_through() -> None:
    """Another host, or a route without its context, is a way around a rule as well."""
    strict = "in | match: {hosts: [api.test], paths: [/a], context: {k: v}}, require: {scopes: [w]}"
    (warning,) = analyse(strict, "any | match: {paths: [/a]}")
    assert "with another context or another host, 'any' below" in warning
    assert analyse(strict, "other | match: {hosts: [api.test], paths: [/a], context: {k: w}}") == []


WEAKER = {
    "issuers: [a]": "issuers: [a, b]",
    "audiences: [y]": "audiences: [y, z]",
    "any_scope: [y]": "any_scope: [y, z]",
    "acr: [y]": "amr: [y]",
    "amr: [y]": "acr: [y]",
    "max_age: 5m": "max_age: 6m",
    "claims: {g: [a]}": "claims: {g: [a, b]}",
    "all_of: {g: [a, b]}": "all_of: {g: [a]}",
    "when: claims.x == 1": "when: claims.x == 2",
}


@pytest.mark.parametrize(("strict", "loose"), WEAKER.items())
def test_asks_less(strict: str, loose: str) -> None:
    """Each requirement counts: what it admits must lie within what the rule above admits."""
    rules = ("in | match: {paths: [/a], methods: [PUT]}, require: {%s}", "any | match: {paths: [/a]}, require: {%s}")
    assert len(analyse(rules[0] % strict, rules[1] % loose, issuers=SECOND)) == 1
    assert analyse(rules[0] % strict, rules[1] % strict, issuers=SECOND) == []


def rule(name: str, scope: str, **match: str) -> str:
    """Write a rule that asks for *scope*."""
    pairs = ", ".join(f"{key}: {value}" for key, value in match.items())
    return f"{name} | match: {{{pairs}}}, require: {{scopes: [{scope}]}}"


def low(**match: str) -> str:
    """Write the rule above."""
    return rule("low", "r", **{"paths": "['/p/**']", **match})


def high(**match: str) -> str:
    """Write the rule below that asks for something else."""
    return rule("high", "s", **{"paths": "['/p/{id}/secret']", **match})


GET = {"methods": "[GET]"}
NAME_THEM = ", or list the methods that it should decide"
ABOVE = {
    "fewer methods, wider path": (low(**GET), high(), "GET on /p/{id}/secret", NAME_THEM),
    "methods of both": (
        low(methods="[GET, POST]"),
        high(methods="[POST, PUT]", paths="['/p/**']"),
        "POST on /p/**",
        "",
    ),
    "one of two paths": (low(), high(paths="[/p/secret, /q]"), "/p/secret", ""),
    "the tree and its root": (low(**GET), high(paths="[/p]"), "GET on /p", NAME_THEM),
    "a parameter and a name": (low(paths="['/p/{x}']", **GET), high(paths="[/p/me]"), "GET on /p/me", NAME_THEM),
    "a wider host": (low(**GET), high(paths="['/p/**']", hosts="[h.test]"), "GET on /p/**", NAME_THEM),
    "a wildcard": (
        low(hosts="['*.x.test']", **GET),
        high(hosts="['*.a.x.test']"),
        "GET on /p/{id}/secret",
        NAME_THEM,
    ),
    "a host that the rule below forgot": (low(hosts="[h.test]"), high(), "h.test/p/{id}/secret", ""),
    "a host below its wildcard": (
        low(hosts="['*.a.test']"),
        high(hosts="['*.test']"),
        "*.a.test/p/{id}/secret",
        "",
    ),
    "a context": (low(**GET), high(paths="['/p/**']", context="{k: v}"), "GET on /p/**", NAME_THEM),
    "a context that the rule below forgot": (low(context="{k: v}"), high(), "/p/{id}/secret", ""),
    "its own letter case": (low(), high(case_insensitive="true"), "/p/{id}/secret", ""),
    "every letter case": (
        low(paths="['/P/**']", case_insensitive="true", **GET),
        high(),
        "GET on /p/{id}/secret",
        NAME_THEM,
    ),
    "no requirement": (
        "low | match: {paths: ['/**'], methods: [GET, HEAD]}",
        high(),
        "GET and HEAD on /p/{id}/secret",
        NAME_THEM,
    ),
    "one parameter, public": (
        "low | match: {paths: ['/f/{name}'], methods: [GET]}, allow: public",
        high(paths="[/f/secret]"),
        "GET on /f/secret",
        NAME_THEM,
    ),
    "nobody below": (low(**GET), "high | match: {paths: ['/p/x']}, allow: deny", "GET on /p/x", NAME_THEM),
}


@pytest.mark.parametrize(("above", "below", "which", "more"), ABOVE.values(), ids=ABOVE)
def test_a_weaker_rule_above(above: str, below: str, which: str, more: str) -> None:
    """A rule above that takes part of a more specific one, and asks less, is reported with what it takes."""
    found = f"weaker-above: for {which}, 'low' above decides, which requires less"
    told = [warning for warning in analyse(above, below) if "weaker-above" in warning]
    assert told == [f"rules[1]: {found} (put this rule above it{more})"]


EXCEPTIONS = {
    "a path of its own": (low(paths="[/p/a]"), high(paths="['/p/**']", case_insensitive="true")),
    "a method of its own": (low(**GET), high(paths="['/p/**']")),
    "a method of its own, of those that both name": (low(**GET), high(paths="['/p/**']", methods="[GET, PUT]")),
    "a host of its own": (low(hosts="[h.test]"), high(paths="['/p/**']")),
    "a whole host": (low(hosts="[h.test]", paths="['/**']"), high()),
    "a context of its own": (low(context="{k: v}"), high(paths="['/p/**']")),
    "a whole route": (low(context="{k: v}", paths="['/{x}/**']"), high()),
    "other methods": (low(**GET), high(methods="[POST]")),
    "another host": (low(hosts="[h.test]"), high(hosts="[i.test, '*.test.h']")),
    "the domain itself": (low(hosts="[x.test]"), high(hosts="['*.x.test']")),
    "another context": (low(context="{k: v}"), high(context="{k: w}")),
    "another letter case": (low(paths="['/P/**']"), high()),
    "a preflight": (low(methods="[OPTIONS]"), high()),
    "asks more": (low(**GET).replace("[r]", "[r, s]"), high()),
    "nobody": ("low | match: {paths: ['/p/**'], methods: [GET]}, allow: deny", high()),
}


@pytest.mark.parametrize("rules", EXCEPTIONS.values(), ids=EXCEPTIONS)
def test_an_exception_above(rules: tuple[str, str]) -> None:
    """A rule that is narrower, about something else, or no weaker stands rightly above."""
    assert [warning for warning in analyse(*rules) if "weaker-above" in warning] == []


def test_a_guard_above_a_weaker_rule() -> None:
    """What a rule higher up decides already is not the weaker one's; what it leaves is."""
    guard = rule("guard", "s", paths="['/p/{id}/secret']", methods="[GET]", case_insensitive="true")
    told = [warning for warning in analyse(guard, low(**GET), high()) if "weaker-above" in warning]
    assert told == []
    (told_of_rest,) = (
        warning for warning in analyse(guard, low(), high(paths="['/p/{id}/secret', /q]")) if "-above" in warning
    )
    assert "for other methods on /p/{id}/secret, 'low'" in told_of_rest
    half = rule("half", "s", paths="['/p/{id}/secret']", methods="[GET]", hosts="[h.test]")
    assert any("weaker-above: for GET on" in warning for warning in analyse(half, low(**GET), high()))
    exact, fold = rule("exact", "s", paths="['/p/{id}/secret']", **GET), {"case_insensitive": "true"}
    assert any("weaker-above" in warning for warning in analyse(exact, low(**GET, **fold), high(**fold)))
    whole = rule("whole", "s", paths="['/p/{id}/secret']", **fold)
    assert not any("-above" in warning for warning in analyse(whole, low(), high(paths="['/p/{id}/secret', /q]")))


def test_the_other_way_round_is_right() -> None:
    """Putting the rule above the weaker one, as the hint says, leaves nothing of it."""
    assert not any("above" in warning for warning in analyse(high(), low(**GET)))


EVERYTHING = "every request that no rule above matches is public (name the hosts or the paths that are)"


def test_public_by_accident() -> None:
    """A public rule for everything, and one that opens what a rule below protects, are reported."""
    assert analyse(
        "site | match: {paths: ['/**'], methods: [GET]}, allow: public", "admin | match: {paths: ['/admin/**']}"
    ) == [
        f"rules[0]: public-by-accident: {EVERYTHING}",
        "rules[1]: public-by-accident: GET on /admin/** is public by 'site' above (put this rule above it)",
    ]


PUBLIC = {
    "one path": ("site | match: {paths: [/healthz]}, allow: public", "rest | match: {paths: ['/**']}"),
    "a host": (
        "admin | match: {paths: ['/admin/**'], case_insensitive: true}",
        "site | match: {hosts: [w.test]}, allow: public",
    ),
    "a preflight": ("cors | match: {methods: [OPTIONS]}, allow: public", "admin | match: {paths: ['/admin/**']}"),
    "reading of the same path": (
        "read | match: {paths: [/a], methods: [GET]}, allow: public",
        "rest | match: {paths: [/a]}",
    ),
}


@pytest.mark.parametrize("rules", PUBLIC.values(), ids=PUBLIC)
def test_public_on_purpose(rules: tuple[str, ...]) -> None:
    """What is public in so many words is not reported."""
    assert analyse(*rules) == []


LONELY = "sub is unique within one issuer only, and there are several"


def test_sub_without_issuer() -> None:
    """With two issuers `sub` alone may be two people: in a header, in a claim, in a condition."""
    own = "own | match: {paths: [/a]}, require: {claims: {sub: [bob]}, when: claims.sub == 'bob'}"
    headers = "identity: {headers: {x-user: sub}}\n"
    assert analyse(own, more=headers) == []
    told = analyse(own, more=headers, issuers=SECOND)
    assert [warning.partition(": ")[0] for warning in told] == [
        "identity.headers.x-user",
        "rules[0].require.claims.sub",
        "rules[0].require.when",
    ]
    assert all(LONELY in warning for warning in told)


def test_sub_with_issuer() -> None:
    """A header with the issuer, or a rule for one issuer, says whose `sub` it is."""
    headers = "identity: {headers: {x-user: sub, x-issuer: iss}}\n"
    rules = (
        "one | match: {paths: [/a]}, require: {issuers: [a], claims: {sub: [bob]}}",
        "two | match: {paths: [/b]}, require: {when: \"claims.iss + claims.sub == 'x'\"}",
    )
    assert analyse(*rules, more=headers, issuers=SECOND) == []
    assert analyse(rules[0], more="identity: {headers: {x-user: sub, x-all: {payload: json}}}\n", issuers=SECOND) == []


PDPS = "pdps: {p: {url: 'https://pdp.test/access/v1/evaluation'}}\n"


def test_a_pdp_that_learns_the_subject_alone() -> None:
    """It would decide about a user of one issuer as about another's, unless the question tells them apart."""
    asks = {
        "p": True,
        "{name: p, subject: {id: 'user:${claims.sub}'}}": True,
        "{name: p, subject: {id: '${claims.email}', properties: {x: '${claims.sub}'}}}": True,
        "{name: p, subject: {id: '${claims.email}'}}": False,
        "{name: p, subject: {properties: {issuer: '${claims.iss}'}}}": False,
        "{name: p, subject: {type: '${claims.iss}'}}": False,
        "{name: p, context: {issuer: '${claims.iss}'}}": False,
    }
    for asked, warned in asks.items():
        rule = f"all | match: {{paths: ['/**']}}, require: {{pdp: {asked}}}"
        assert analyse(rule, more=PDPS) == []
        told = analyse(rule, more=PDPS, issuers=SECOND)
        assert [LONELY in warning for warning in told] == [True] * warned
        assert all(warning.startswith("rules[0].require.pdp.subject.id: ") for warning in told)
        of_one = f"all | match: {{paths: ['/**']}}, require: {{issuers: [a], pdp: {asked}}}"
        assert analyse(of_one, more=PDPS, issuers=SECOND) == []


def test_the_metadata_document_hides_no_rule_in_silence() -> None:
    """A rule that names the path which the sidecar answers itself gets a warning; others do not."""
    resource = "resource: {identifier: https://api.test/v1}\n"
    named = "meta | match: {paths: ['/.well-known/oauth-protected-resource/v1']}"
    told = "the sidecar itself answers GET and HEAD here, before any rule (resource)"
    assert analyse(named, more=resource) == [f"rules[0].match.paths[0]: {told}"]
    assert analyse(named) == []
    assert analyse(named[:-1] + ", methods: [POST]}", more=resource) == []
    assert analyse("all | match: {paths: ['/**']}", more=resource) == []


def test_the_sample_is_without_reproach() -> None:
    """The configuration that documents every key has no warning."""
    assert warnings(load(SAMPLE)) == []


RULE = Template(
    "  - {name: r$n, match: {hosts: [h$n.test], paths: ['/s$n/{id}', '/s/**']}, require: {scopes: [s$n]}}\n"
)


def test_ten_thousand_rules() -> None:
    """Rules are found by their paths: among ten thousand that are compared, the one duplicate is found."""
    many = "".join(RULE.substitute(n=n) for n in range(10_000))
    last = RULE.substitute(n=7).replace("r7", "last")
    config = parse(f"{HEAD}rules:\n{many}{last}", file="f")
    assert [str(warning) for warning in warnings(config)] == [
        "rules[10000]: can never match: it is shadowed by 'r7' above"
    ]
