"""Why claims do not meet what a rule requires, in words for the operator: what a claim is, and never what it says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from authz.core.claims import ClaimPath, Claims


def explain_claim(claims: Claims, name: str, path: ClaimPath, values: Iterable[object], *, every: bool) -> str:
    """Say why the claim *name*, at *path* by default, has none of *values*, or not *every* one."""
    found = claims.find(name, path)
    place = _place(claims, name)
    if found is None:
        return f"{place} is absent{_why_absent(claims, claims.locate(name, path).names[0])}"
    asked = {name_type(value) for value in values}
    if asked.isdisjoint(map(name_type, found if isinstance(found, list) else [found])):
        return f"{place} is {describe(found)}, and the rule asks for a {' or '.join(sorted(asked))}"
    lacks = "does not have every required value" if every else "does not contain any required value"
    return f"{place} is {describe(found)}, and {lacks}"


def explain_scopes(claims: Claims) -> str:
    """Say what is in the place of scopes if that grants none, or nothing."""
    scope, scp = claims.members.get("scope"), claims.members.get("scp")
    if claims.scopes or (scope is None and scp is None):
        return ""
    return f": scope is {describe(scope)}, scp is {describe(scp)}"


def describe(value: object) -> str:
    """Return "absent", "a text", "a list of 3 objects" and the like; JSON null counts as absent."""
    if value is None:
        return "absent"
    if value == "":
        return "an empty text"
    if isinstance(value, list) and value:
        types = {name_type(item) for item in value}
        name = types.pop() if len(types) == 1 else "value"
        return f"a list of {len(value)} {name}{'s' if len(value) > 1 else ''}"
    return _NAMED[name_type(value)]


_NAMED: Final = {
    "boolean": "a boolean",
    "number": "a number",
    "text": "a text",
    "list": "an empty list",
    "object": "an object",
}


def name_type(value: object) -> str:
    """Return the JSON type of *value* in one word."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"


def _place(claims: Claims, name: str) -> str:
    """Name the claim as the rule does, and the issuer's own path behind it if that differs."""
    place = f"claims{name}" if name.startswith("[") else f"claims.{name}"
    return f"{place} ({claims.aliases[name]})" if name in claims.aliases else place


def _why_absent(claims: Claims, name: str) -> str:
    """Say so if an issuer left out a claim that is too large for a token (OpenID Connect Core section 5.6.2)."""
    elsewhere = claims.members.get("_claim_names")
    if isinstance(elsewhere, dict) and name in elsewhere:
        what = "group overage" if name == "groups" else "a distributed claim"
        return f": _claim_names says that it is elsewhere ({what})"
    if name == "groups" and claims.members.get("hasgroups") is True:
        return ": hasgroups says that there are more than the token can hold (group overage)"
    return ""
