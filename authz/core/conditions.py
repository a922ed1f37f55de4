"""Conditions of rules, and other expressions, in CEL (Common Expression Language), by Google's C++ runtime.

Rules of this file:
1. An expression is compiled and type-checked when the configuration is loaded; the type of a condition is bool.
2. It sees the same canonical path and host as the rules do.
3. Its cost is bounded for any input. The runtime stops after 10,000 iterations of macros, but one iteration can scan a
   whole list. Therefore macros must not be nested (measured: 600 ms nested, 21 ms not nested), lists and maps have at
   most MAX_VALUES entries in total, and regular expressions (RE2, linear time) must be literals.
4. Every failure of an evaluation raises, and the caller denies. The message contains only text of the expression or of
   this file, because the runtime's own message can quote a claim.
5. Only this file imports the CEL runtime, an optional dependency that is imported with the first condition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from authz.core.claims import Claims
from authz.core.request import Request, parse_target
from authz.core.requirements import NoResultError, Params
from authz.core.risk import HISTORY_FIELDS

MAX_CHARS: Final = 2048  # of an expression
MAX_VALUES: Final = 1000  # entries of all lists and maps of one evaluation, in total
_INT64: Final = range(-(2**63), 2**63)

INSTALL: Final = 'pip install ".[cel]"'


class ConditionError(ValueError):
    """Raised if an expression is invalid; the message contains position and reason."""


class NotInstalledError(ConditionError):
    """Raised if the CEL runtime is not installed."""


class TooManyValuesError(NoResultError):
    """Raised if the lists and maps of a request have more than MAX_VALUES entries."""


class NumberOutOfRangeError(NoResultError):
    """Raised for an integer of more than 64 bits, which CEL does not support. Rounding could make two numbers equal."""


class EvaluationError(NoResultError):
    """Raised if an evaluation fails, for example because a claim is absent or has the wrong type."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression. It is immutable, and threads may share it."""

    text: str
    _expression: Any = field(repr=False, compare=False)

    def holds(self, request: Request, params: Params, claims: Claims, risk: Mapping[str, object] | None = None) -> bool:
        """Evaluate the expression, with the values of the *risk* if it reads them.

        Raises NoResultError: TooManyValuesError, NumberOutOfRangeError, EvaluationError.
        """
        try:
            value = _run(self._expression, request, params, claims, risk).value()
        except RuntimeError as error:  # the runtime reached one of its limits
            raise EvaluationError(_LIMIT) from error
        if not isinstance(value, bool):  # CEL errors are values
            raise EvaluationError(_describe_error(str(value), self.text))
        return value


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression of any type that JSON has. It is immutable, and threads may share it."""

    text: str
    _expression: Any = field(repr=False, compare=False)

    def evaluate(self, request: Request, params: Mapping[str, str], claims: Claims) -> object:
        """Return the value of the expression.

        Raises NoResultError: TooManyValuesError, NumberOutOfRangeError, EvaluationError.
        """
        try:
            result = _run(self._expression, request, params, claims)
            failed = result.type().name() in _FAILED
            value: object = result.value() if failed else result.plain_value()
        except RuntimeError as error:  # as above
            raise EvaluationError(_LIMIT) from error
        if failed:  # the value of an error is a string
            raise EvaluationError(_describe_error(str(value), self.text))
        if not _is_json(value):
            raise EvaluationError("a value of a type that JSON does not have")
        return value


_FAILED: Final = frozenset({"ERROR", "UNKNOWN"})
_LIMIT: Final = "a limit of the runtime was reached"


def _run(
    expression: Any,  # noqa: ANN401 - the runtime's classes have no types
    request: Request,
    params: Mapping[str, str],
    claims: Claims,
    risk: Mapping[str, object] | None = None,
) -> Any:  # noqa: ANN401 - as above
    """Evaluate a compiled expression. Raises NoResultError, RuntimeError."""
    target = parse_target(request)
    _check_values((claims.members, request.headers, request.context, params))
    return expression.eval(
        data={
            "claims": claims.members,
            "request.method": target.method,
            "request.host": target.host,
            "request.path": target.path.text,
            "request.scheme": request.scheme,
            "request.headers": dict(request.headers),
            "params": params,
            "context": request.context,
            "source.address": request.source_address,
            **(risk or {}),
        }
    )


def _is_json(value: object) -> bool:
    match value:
        case dict():
            return all(isinstance(name, str) and _is_json(item) for name, item in value.items())
        case list():
            return all(map(_is_json, value))
        case _:
            return value is None or isinstance(value, str | int | float)


def compile_condition(text: str) -> Condition:
    """Compile and type-check *text*. Raises ConditionError."""
    expression = _compile_checked(text)
    if expression.return_type().name() != "BOOL":
        raise ConditionError("does not have the type bool; use a comparison, such as claims.admin == true")
    return Condition(text, expression)


def compile_expression(text: str) -> Expression:
    """Compile and type-check *text*, whose value may have any type. Raises ConditionError."""
    return Expression(text, _compile_checked(text))


def _compile_checked(text: str) -> Any:  # noqa: ANN401 - the runtime's classes have no types
    """Compile *text*, and check its cost. Raises ConditionError."""
    if len(text) > MAX_CHARS:
        raise ConditionError(f"is longer than {MAX_CHARS} characters")
    if not text.isprintable() and not text.replace("\n", "").isprintable():
        raise ConditionError("has control characters")
    environment = _environment()
    expression = _compile(environment, text)
    for pattern in _check_cost(text):
        if not isinstance(_compile(environment, f"''.matches({pattern})").eval(data={}).value(), bool):
            raise ConditionError(f"{pattern} is not a valid regular expression (RE2)")
    return expression


@cache
def _environment() -> Any:  # noqa: ANN401 - the runtime's classes have no types
    """Declare the variables, so that the compiler finds a misspelt member of `request`."""
    try:
        from cel_expr_python import cel  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise NotInstalledError(f"needs the CEL runtime: {INSTALL}") from None
    types = cel.Type
    strings = types.Map(types.STRING, types.STRING)
    return cel.NewEnv(
        variables={
            "claims": types.Map(types.STRING, types.DYN),
            "request.method": types.STRING,
            "request.host": types.STRING,
            "request.path": types.STRING,
            "request.scheme": types.STRING,
            "request.headers": strings,
            "params": strings,
            "context": strings,
            "source.address": types.STRING,
            **{f"risk.{name}": types.BOOL if name == "new_network" else types.INT for name in HISTORY_FIELDS},
            "risk.level": types.STRING,
            "risk.score": types.DOUBLE,
        }
    )


def _compile(environment: Any, text: str) -> Any:  # noqa: ANN401 - as above
    try:
        return environment.compile(text)
    except (RuntimeError, TypeError) as error:  # TypeError: a lone surrogate
        raise ConditionError(_explain(str(error))) from None


_COMPILE_ERROR: Final = re.compile(r"ERROR: <input>:(?P<line>\d+):(?P<column>\d+): (?P<message>[^\n]*)")


def _explain(error: str) -> str:
    """Return the compiler's first error as one line."""
    match = _COMPILE_ERROR.search(error)
    if match is None:
        return "is nested too deeply" if "recursion" in error else "cannot be compiled"
    message = re.sub(r" \(in container ''\)| expecting \{.*\}| \[INVALID_ARGUMENT\]", "", match["message"])
    line = f"line {match['line']}, " if match["line"] != "1" else ""
    return f"{line}column {match['column']}: {message}"


# String literals of CEL; a raw string has no escapes.
_STRING: Final = (
    r"""(?:[bB]?[rR][bB]?(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|[bB]?(?:\"{3}(?:\\[\s\S]|[^\\])*?\"{3}|'{3}(?:\\[\s\S]|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))"""
)
_TOKEN: Final = re.compile(
    rf"//[^\n]*|\.\s*matches\s*\(\s*(?P<pattern>{_STRING})\s*\)|(?P<computed>\bmatches\s*\()|{_STRING}"
    r"|(?P<macro>\.\s*(?:all|exists|exists_one|existsOne|map|filter)\s*\()|(?P<open>\()|(?P<close>\))"
)


_MISSING_KEY: Final = re.compile(r'NOT_FOUND: Key not found in map : "(?P<key>.*)"')
_NO_FUNCTION: Final = re.compile(r"UNKNOWN: No matching overloads found : (?P<call>[^'\"]{1,60})")
_ERRORS: Final = {
    "divide by zero": "a division by zero",
    "modulus by zero": "a division by zero",
    "OUT_OF_RANGE": "a number out of range",
    "conver": "a value that cannot be converted",
    "SELECT to non-message": "a member of a value that has no members",
    "Index error": "no such index",
}


def _describe_error(error: str, text: str) -> str:
    """Describe an *error* from evaluating the expression *text*, without any input from the client."""
    if match := _MISSING_KEY.fullmatch(error):
        mention = re.search(rf"\b{re.escape(match['key'])}\b", text) if match["key"] else None
        return f"no such key: {match['key']}" if mention else "no such key"
    if match := _NO_FUNCTION.fullmatch(error):
        return f"no function for these types: {match['call']}"
    explanations = (words for part, words in _ERRORS.items() if part in error)
    return next(explanations, "the expression has no result for this request")


_PARAM: Final = re.compile(
    rf"//[^\n]*|{_STRING}|\bparams\s*(?:\.\s*(?P<member>\w+)|\[\s*[rR]?(?P<quote>['\"])(?P<key>\w*)(?P=quote)\s*\])"
    r"|\.\s*\w+|\w+"  # a member of another variable, or another name
)
_PARAMS_AS_MACRO_VARIABLE: Final = re.compile(r"\(\s*params\s*,")


def find_params(text: str) -> Iterator[tuple[str, str]]:
    """Yield each path parameter in *text*, such as `params.id` or `params['id']`, with its position."""
    if _PARAMS_AS_MACRO_VARIABLE.search(text):
        return  # here `params` is the macro's own variable
    for match in _PARAM.finditer(text):
        name = match["member"] or match["key"]
        if name:
            yield name, _describe_position(text, match.start())


_RISK: Final = re.compile(
    rf"//[^\n]*|{_STRING}|(?<!\.)\brisk\s*\.\s*(?P<member>\w+)|\.\s*\w+|\w+"  # a member of another variable, or a name
)


def find_risk(text: str) -> Iterator[str]:
    """Yield the members of `risk` that *text* reads."""
    yield from (match["member"] for match in _RISK.finditer(text) if match["member"])


def _describe_position(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return f"{f'line {line}, ' if line > 1 else ''}column {column}"


def _check_cost(text: str) -> list[str]:
    """Return the regular expressions of *text*, as written.

    Raises ConditionError for a computed one, and for nested macros.
    """
    patterns = []
    depth, macro_at = 0, None
    for token in _TOKEN.finditer(text):
        match token.lastgroup:
            case "pattern":
                patterns.append(token["pattern"])
            case "computed":
                raise ConditionError("the argument of matches must be a literal: claims.sub.matches('^a')")
            case "macro":
                if macro_at is not None:
                    raise ConditionError("macros must not be nested; `in` also searches a list")
                macro_at, depth = depth, depth + 1
            case "open":
                depth += 1
            case "close":
                depth -= 1
                macro_at = None if depth == macro_at else macro_at
            case _:
                pass  # a string or a comment
    return patterns


def _check_values(roots: tuple[Mapping[str, object], ...]) -> None:
    """Raise TooManyValuesError or NumberOutOfRangeError if CEL must not or cannot evaluate these values."""
    count = 0
    pending: list[object] = list(roots)
    while pending:
        value = pending.pop()
        if isinstance(value, int) and value not in _INT64:
            raise NumberOutOfRangeError("an integer beyond 64 bits")
        if isinstance(value, Mapping | list):
            count += len(value)
            if count > MAX_VALUES:
                raise TooManyValuesError(f"more than {MAX_VALUES} entries in lists and maps")
            pending.extend(value.values() if isinstance(value, Mapping) else value)
