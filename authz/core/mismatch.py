"""Explain to the operator why claims do not meet a requirement. Only types are shown, never values from a token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from authz.core.claims import ClaimPath, Claims


def explain_claim(claims: Claims, name: str, path: ClaimPath, values: Iterable[object], *, every: bool) -> str:
    """Explain why the claim *name*, by default at *path*, has none of *values*, or not *every* one."""
    claim = claims.find(name, path)
    label = _label(claims, name)
    if claim is None:
        return f"{label} is absent{_why_absent(claims, claims.locate(name, path).names[0])}"
    wanted_types = {type_name(value) for value in values}
    if wanted_types.isdisjoint(map(type_name, claim if isinstance(claim, list) else [claim])):
        return f"{label} is {describe(claim)}, and the rule requires a {' or '.join(sorted(wanted_types))}"
    lacks = "does not have every required value" if every else "does not contain any required value"
    return f"{label} is {describe(claim)}, and {lacks}"


def explain_scopes(claims: Claims) -> str:
    """Describe `scope` and `scp` if they are present but grant no scopes; else return an empty text."""
    scope, scp = claims.members.get("scope"), claims.members.get("scp")
    if claims.scopes or (scope is None and scp is None):
        return ""
    return f": scope is {describe(scope)}, scp is {describe(scp)}"


def describe(value: object) -> str:
    """Return for example "absent", "a string" or "a list of 3 objects"; JSON null counts as absent."""
    if value is None:
        return "absent"
    if value == "":
        return "an empty string"
    if isinstance(value, list) and value:
        types = {type_name(item) for item in value}
        name = types.pop() if len(types) == 1 else "value"
        return f"a list of {len(value)} {name}{'s' if len(value) > 1 else ''}"
    return _WITH_ARTICLE[type_name(value)]


_WITH_ARTICLE: Final = {
    "boolean": "a boolean",
    "number": "a number",
    "string": "a string",
    "list": "an empty list",
    "object": "an object",
}


def type_name(value: object) -> str:
    """Return the JSON type of *value*; an array is called "list"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else "object"


def _label(claims: Claims, name: str) -> str:
    """Return the claim's name in the rule, with the issuer's own path in parentheses if there is one."""
    label = f"claims{name}" if name.startswith("[") else f"claims.{name}"
    return f"{label} ({claims.aliases[name]})" if name in claims.aliases else label


def _why_absent(claims: Claims, name: str) -> str:
    """Explain a claim that the issuer left out because of its size (OpenID Connect Core section 5.6.2)."""
    elsewhere = claims.members.get("_claim_names")
    if isinstance(elsewhere, dict) and name in elsewhere:
        cause = "group overage" if name == "groups" else "a distributed claim"
        return f": _claim_names says that it is elsewhere ({cause})"
    if name == "groups" and claims.members.get("hasgroups") is True:
        return ": hasgroups says that there are more than the token can hold (group overage)"
    return ""
