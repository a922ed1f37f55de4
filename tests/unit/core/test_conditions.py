"""Proves authz.core.conditions: conditions in CEL, their bounds and their errors."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Final

import pytest

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.core.claims import ClaimPath, Claims
from authz.core.conditions import (
    MAX_CHARS,
    MAX_VALUES,
    ConditionError,
    EvaluationError,
    NotInstalledError,
    NumberOutOfRangeError,
    TooManyValuesError,
    _environment,
    compile_condition,
    compile_expression,
    find_params,
)
from authz.core.request import Request
from authz.core.requirements import NoResultError
from tests.tools import ROOT
from tests.unit.config.sample import problems, small

REQUEST = Request(
    method="GET",
    host="API.test.:8443",
    path="/users/%62ob/?q=/other",
    scheme="https",
    headers={"x-tenant": "acme"},
    context={"tier": "gold"},
    source_address="192.0.2.1",
)
CLAIMS = {
    "sub": "bob",
    "n": 5,
    "f": 1.5,
    "yes": True,
    "nothing": None,
    "groups": ["staff", "admin"],
    "deep": {"er": {"x": 1}},
    "https://example.com/t": "acme",
}


def holds(text: str, claims: Mapping[str, object] = CLAIMS, request: Request = REQUEST) -> bool:
    """Compile and evaluate *text*."""
    return compile_condition(text).holds(request, {"id": "bob"}, Claims(claims, b"", frozenset(), {}))


TRUE = (
    "claims.sub == params.id",
    "claims['sub'] == params['id']",
    "claims['https://example.com/t'] == request.headers['x-tenant']",
    "claims.n == 5 && claims.n == 5.0 && claims.n > 4.5",
    "claims.f > 1",
    "claims.yes",
    "claims.nothing == null",
    "claims.deep.er.x == 1",
    "'admin' in claims.groups",
    "claims.groups.exists(g, g == 'admin')",
    "claims.groups.filter(g, g != 'x').all(g, g.size() == 5)",
    "!has(claims.missing)",
    "claims.sub.matches('^b.b$')",
    "claims.sub.matches(r'^\\w+$') // matches(x) is only said here",
    "'.matches(' != claims.sub",
    "request.method == 'GET' && request.host == 'api.test' && request.path == '/users/bob/'",
    "request.scheme == 'https' && context.tier == 'gold' && source.address == '192.0.2.1'",
    "request.path.startsWith('/users/')\n&& claims.n < 10",
)


@pytest.mark.parametrize(
    ("when", "reads"),
    [
        ('claims.sub != "root"', True),
        ('claims . sub.startsWith("a")', True),
        ('claims["sub"] == "a"', True),
        ("has(claims.sub)", True),
        ("claims['sub'] == claims.act.sub", True),
        ('claims.subject == "a"', False),
        ('claims.act.sub == "a"', False),
        ('params.sub == "a"', False),
    ],
)
def test_conditions_over_the_subject_are_known(when: str, reads: bool) -> None:  # noqa: FBT001 - a column of the table
    """Where a condition reads `sub`, a number there is refused before it is compared with texts."""
    text = small(rule=f"require: {{when: {json.dumps(when)}}}").replace("[/orders]", "['/{sub}']")
    (rule,) = build_snapshot(parse(text, file="authz.yaml")).policy.rules

    assert rule.requirements.condition_reads == ((ClaimPath(("sub",)),) if reads else ())


@pytest.mark.parametrize("text", TRUE)
def test_holds(text: str) -> None:
    """Claims, request, parameters, context and source are there, in the form that rules read them."""
    assert holds(text + " && true" if text == "claims.yes" else text) is True


def test_does_not_hold() -> None:
    """No is no."""
    assert holds("claims.sub == 'eve'") is False


@pytest.mark.parametrize(
    "text",
    [
        "claims.missing == 1",
        "claims.sub + 1 == 2",
        "claims.sub > 1",
        "request.headers['x-missing'] == ''",
        "params.other == 'x'",
        "claims.n / 0 == 1",
        "claims.sub && true",
    ],
)
def test_an_error_is_raised(text: str) -> None:
    """What has no answer is an error, never a no that `!` could turn into a yes."""
    with pytest.raises(EvaluationError):
        holds(text)
    with pytest.raises(EvaluationError):
        holds(f"!({text})")


def test_no_claim_is_quoted() -> None:
    """An error is described without the values of the claims."""
    with pytest.raises(EvaluationError) as caught:
        holds("timestamp(claims.sub) == timestamp('2026-01-01T00:00:00Z')", {"sub": "confidential"})
    assert "confidential" not in str(caught.value)


SAID = {
    "params.idd == 'x'": "no such key: idd",
    "claims['a.b'] == 1": "no such key: a.b",
    "request.headers['x-missing'] == ''": "no such key: x-missing",
    "claims[claims.sub] == 1": "no such key",
    "claims.n / 0 == 1": "a division by zero",
    "claims.n % 0 == 1": "a division by zero",
    "claims.n * 9223372036854775807 > 0": "a number out of range",
    "claims.sub + 1 == 2": "no function for these types: _+_(string, int64)",
    "claims.sub && true": "no function for these types: _&&_",
    "claims.groups[claims.n] == ''": "no such index",
    "claims.sub.x == 1": "a member of a value that has no members",
    "int(claims.sub) == 1": "a value that cannot be converted",
    "bool(claims.sub)": "a value that cannot be converted",
    "timestamp(claims.sub) == timestamp(0)": "a value that cannot be converted",
    "claims.deep[claims.groups] == 1": "the expression has no result for this request",
}


@pytest.mark.parametrize(("text", "why"), SAID.items())
def test_what_failed_is_said(text: str, why: str) -> None:
    """A key is named where the expression names it, and no claim is: neither its value nor a key of its choice."""
    with pytest.raises(NoResultError) as caught:
        holds(text)
    assert str(caught.value) == why


NAMED = {
    "claims.sub == params.id": [("id", "column 15")],
    "'x' in claims &&\n params['id'] == r'params.x' // params.y": [("id", "line 2, column 2")],
    'params . a == "b" && has(params.b) && params[ "c" ] != claims.sub': [
        ("a", "column 1"),
        ("b", "column 26"),
        ("c", "column 39"),
    ],
    "claims.params.x == myparams.y && 'id' in params && \"params.z\" == params[claims.sub]": [],
    "claims.groups.exists(params, params.x == 1)": [],
}


@pytest.mark.parametrize(("text", "named"), NAMED.items(), ids=range(len(NAMED)))
def test_parameters_that_are_named(text: str, named: list[tuple[str, str]]) -> None:
    """What the expression reads of the path is found with its place, and nothing that only looks like it."""
    assert list(find_params(text)) == named


def test_a_parameter_that_no_path_has_is_refused() -> None:
    """It would fail on every request; one of any of the paths is known."""
    rule = "match: {paths: ['/a/{id}', '/b/{other}']}\n    require:\n      when: %s"

    def refused(when: str) -> list[str]:
        text = small(rule=rule % when).replace("    match: {paths: [/orders]}\n", "")
        return [problem.partition(": ")[2] for problem in problems(text)]

    assert refused("params.idd == claims.sub") == [
        "rules[0].require.when: column 1: no path of this rule has a parameter 'idd' (did you mean `id`?)"
    ]
    assert refused("claims.sub == params['x']") == [
        "rules[0].require.when: column 15: no path of this rule has a parameter 'x'"
    ]
    assert refused("params.id == claims.sub || params.other == claims.sub") == []
    (problem,) = problems(small(rule="require: {when: params.id == claims.sub}"))
    assert problem.endswith("no path of this rule has a parameter 'id'")


REFUSED = {
    "claims.sub ==": "column 14: Syntax error: mismatched input '<EOF>'",
    "clams.sub == 'a'": "column 6: undeclared reference to 'clams.sub'",
    "request.pathh == '/'": "column 8: undeclared reference to 'request.pathh'",
    "request.method == 1": "column 16: found no matching overload for '_==_' applied to '(string, int)'",
    "true\n && params.id > 1": "line 2, column 15: found no matching overload for '_>_' applied to '(string, int)'",
    "claims.sub": "does not have the type bool; use a comparison, such as claims.admin == true",
    "1 + 1": "does not have the type bool; use a comparison, such as claims.admin == true",
    "claims.a.matches(claims.b)": "the argument of matches must be a literal: claims.sub.matches('^a')",
    "matches(claims.a, 'b')": "the argument of matches must be a literal: claims.sub.matches('^a')",
    "claims.a.matches('a' + 'b')": "the argument of matches must be a literal: claims.sub.matches('^a')",
    "claims.a.matches('(')": "'(' is not a valid regular expression (RE2)",
    "claims.a.all(x, claims.b.all(y, x == y))": "macros must not be nested; `in` also searches a list",
    "[].map(x, (claims.b).filter(y, true)) == []": "macros must not be nested; `in` also searches a list",
    "(" * 100 + "true" + ")" * 100: "is nested too deeply",
    "true" + " " * MAX_CHARS: f"is longer than {MAX_CHARS} characters",
    "true\0": "has control characters",
    "'\ud800' == ''": "has control characters",
}


@pytest.mark.parametrize(("text", "why"), REFUSED.items(), ids=range(len(REFUSED)))
def test_refused(text: str, why: str) -> None:
    """What cannot be an answer, or could take long, is found when it is compiled, and where."""
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    assert str(caught.value) == why


def test_macros_side_by_side() -> None:
    """Only a macro within a macro is refused."""
    assert holds("claims.groups.exists(a, (a == 'x')) || claims.groups.exists(b, b == 'admin')") is True


def test_entries_are_bounded() -> None:
    """Lists and maps of a request have so many entries together, wherever they stand."""
    room = MAX_VALUES - len(REQUEST.headers) - len(REQUEST.context) - 1  # one parameter
    within = {"deep": {"list": [1] * (room - 2)}}
    assert holds("claims.deep.list.all(x, x == 1)", within) is True
    with pytest.raises(TooManyValuesError):
        holds("true", {**within, "more": 1})


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**70])
def test_numbers_are_never_rounded(number: int) -> None:
    """A whole number that CEL cannot hold is an error, for rounded it would equal another."""
    with pytest.raises(NumberOutOfRangeError):
        holds("claims.n > 0", {"n": [{"m": number}]})
    assert holds("claims.n == 9223372036854775807", {"n": 2**63 - 1}) is True


def test_the_runtime_bounds_the_steps() -> None:
    """Macros take at most 10,000 steps together, and then the evaluation ends in an error."""
    walk = "claims.l.all(x, x == 1)"
    claims = {"l": [1] * (MAX_VALUES - 10)}
    assert holds(" && ".join([walk] * 10), claims) is True
    with pytest.raises(EvaluationError):
        holds(" && ".join([walk] * 20), claims)


def test_threads_share_a_condition() -> None:
    """Four threads that evaluate one condition at once never see each other's claims."""
    condition = compile_condition("claims.sub == params.id && claims.groups.exists(g, g == claims.sub)")
    wrong: list[tuple[int, int]] = []

    def work(number: int) -> None:
        for turn in range(2000):
            sub = f"user-{number}-{turn}"
            expected = turn % 2 == 0
            params = {"id": sub if expected else f"user-{number + 1}-{turn}"}
            claims = Claims({"sub": sub, "groups": ["x", sub]}, b"", frozenset(), {})
            if condition.holds(REQUEST, params, claims) is not expected:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_mistake_is_reported_at_its_line() -> None:
    """A condition that cannot be compiled is a problem of the configuration, with line, path and column."""
    (problem,) = problems(small(rule="require: {when: clams.sub == 'a'}"))
    assert problem.endswith("rules[0].require.when: column 6: undeclared reference to 'clams.sub'")
    assert problem.startswith("9:")


WITHOUT: Final = """
import sys
sys.modules["cel_expr_python"] = None  # as if it were not installed
from tests.unit.config.sample import problems, small
print(*problems(small()), *problems(small(rule="require: {when: claims.sub == 'a'}")))
"""


def test_without_the_extra() -> None:
    """Where the runtime is not installed a condition is a problem that says how to install it; all else loads."""
    said = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    fix = '(pip install ".[cel]")'
    assert said == f"9: rules[0].require.when: needs the CEL runtime, which is not installed {fix}\n"


def test_the_error_without_the_extra() -> None:
    """The same in this process: the import of a module that `sys.modules` holds as None fails."""
    runtime = sys.modules.pop("cel_expr_python", None)
    sys.modules["cel_expr_python"] = None  # type: ignore[assignment]
    try:
        with pytest.raises(NotInstalledError, match="needs the CEL runtime"):
            _environment.__wrapped__()
    finally:
        del sys.modules["cel_expr_python"]
        if runtime is not None:
            sys.modules["cel_expr_python"] = runtime


def test_nothing_is_imported_before_there_is_a_condition() -> None:
    """The runtime costs nothing where it is not used."""
    program = "import sys, authz.runtime.app; print('cel_expr_python' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert said == "False\n"


VALUES: Final[Mapping[str, object]] = {
    "claims.sub": "bob",
    "claims.n + 1": 6,
    "claims.f": 1.5,
    "claims.yes": True,
    "claims.nothing": None,
    "claims.groups": ["staff", "admin"],
    "claims.groups.filter(g, g != 'staff')": ["admin"],
    "claims.deep": {"er": {"x": 1}},
    "{'a': claims.groups, 'b': [1, {'c': params.id}]}": {"a": ["staff", "admin"], "b": [1, {"c": "bob"}]},
    "has(claims.zz) ? claims.zz : 'none'": "none",
    "request.method + ' ' + request.path": "GET /users/bob/",
    "'NOT_FOUND: Key not found in map'": "NOT_FOUND: Key not found in map",
}


@pytest.mark.parametrize(("text", "value"), VALUES.items(), ids=VALUES)
def test_an_expression_has_a_value_of_json(text: str, value: object) -> None:
    """Of any type, as Python has it, at any depth; a text that reads like an error is a text."""
    found = compile_expression(text).evaluate(REQUEST, {"id": "bob"}, Claims(CLAIMS, b"", frozenset(), {}))
    assert found == value
    assert type(found) is type(value)


NO_VALUES: Final[Mapping[str, str]] = {
    "claims.zz": "no such key: zz",
    "[claims.zz]": "no such key: zz",
    "1 / (claims.n - 5)": "a division by zero",
    "b'abc'": "a value of a type that JSON does not have",
    "duration('1s')": "a value of a type that JSON does not have",
    "{1: 2}": "a value of a type that JSON does not have",
    "[timestamp('2026-01-01T00:00:00Z')]": "a value of a type that JSON does not have",
}


@pytest.mark.parametrize(("text", "why"), NO_VALUES.items(), ids=NO_VALUES)
def test_an_expression_without_a_value_raises(text: str, why: str) -> None:
    """An error is never taken for its text."""
    with pytest.raises(EvaluationError, match=f"^{why}$"):
        compile_expression(text).evaluate(REQUEST, {"id": "bob"}, Claims(CLAIMS, b"", frozenset(), {}))


def test_an_expression_is_bounded_as_a_condition_is() -> None:
    """Its text, its cost, and what the runtime does not bear."""
    with pytest.raises(ConditionError, match="is longer than"):
        compile_expression("'" + "x" * MAX_CHARS + "'")
    with pytest.raises(ConditionError, match="macros must not be nested"):
        compile_expression("claims.groups.map(a, claims.groups.map(b, a))")
    crowd = {"many": list(range(MAX_VALUES + 1))}
    with pytest.raises(TooManyValuesError):
        compile_expression("claims.many").evaluate(REQUEST, {}, Claims(crowd, b"", frozenset(), {}))
    some = Claims({"some": list(range(MAX_VALUES - 100))}, b"", frozenset(), {})
    with pytest.raises(EvaluationError, match="a limit of the runtime was reached"):
        compile_expression(f"[{', '.join(['claims.some.exists(x, x < 0)'] * 20)}]").evaluate(REQUEST, {}, some)


RISK: Final = {
    **{f"risk.{name}": 0 for name in ("failures_1m", "failures_1h", "subject_failures_1m", "subject_failures_1h")},
    "risk.new_network": False,
    "risk.level": "low",
    "risk.score": 0.25,
}


@pytest.mark.parametrize(
    ("text", "changes", "expected"),
    [
        ("risk.failures_1m < 20", {}, True),
        ("risk.failures_1m < 20", {"risk.failures_1m": 20}, False),
        ("!risk.new_network && risk.subject_failures_1h <= 3", {}, True),
        ("!risk.new_network", {"risk.new_network": True}, False),
        ("risk.level in ['low', 'medium'] && risk.score < 0.5", {}, True),
        ("risk.score < 0.5", {"risk.score": 0.5}, False),
    ],
)
def test_conditions_read_the_risk(text: str, changes: Mapping[str, object], expected: bool) -> None:  # noqa: FBT001
    """Counts are integers, a new network is a truth, a level a text and a score a number."""
    claims = Claims(CLAIMS, b"", frozenset(), {})
    assert compile_condition(text).holds(REQUEST, {}, claims, {**RISK, **changes}) is expected


@pytest.mark.parametrize("text", ["risk.failures_1m == 'x'", "risk.failure_1m < 1", "risk.level < 1"])
def test_a_mistake_about_the_risk_is_found_at_load(text: str) -> None:
    """A misspelt member, and a comparison of other types."""
    with pytest.raises(ConditionError):
        compile_condition(text)


def test_what_is_not_known_of_the_risk_has_no_result() -> None:
    """An engine that gives no score makes no condition on it true."""
    claims = Claims(CLAIMS, b"", frozenset(), {})
    known = {name: value for name, value in RISK.items() if name != "risk.score"}
    with pytest.raises(EvaluationError):
        compile_condition("risk.score < 0.5").holds(REQUEST, {}, claims, known)
