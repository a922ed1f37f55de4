"""Proves authz.core.mismatch: an operator learns what a claim is, and nothing of what it says."""

from __future__ import annotations

from typing import Any, Final

import pytest

from authz.core.claims import ClaimPath, Claims
from authz.core.decision import Allow, Deny
from authz.core.identity import Identity, MetadataClaim, PayloadHeader
from authz.core.mismatch import describe
from authz.core.reasons import Reason
from tests.fixtures import ABSENT, T, claim, decide, header, issuer_a, make_snapshot, mint, rule

SHAPES: Final[dict[str, object]] = {
    "absent": None,
    "a string": "s3cr3t",
    "an empty string": "",
    "a number": 0,
    "a boolean": False,
    "an object": {},
    "an empty list": [],
    "a list of 1 string": ["s3cr3t"],
    "a list of 3 objects": [{"s3cr3t": 1}] * 3,
    "a list of 2 lists": [[], ["s3cr3t"]],
    "a list of 2 numbers": [1, 2.5],
    "a list of 2 nulls": [None, None],
    "a list of 3 values": ["s3cr3t", 1, None],
}


@pytest.mark.parametrize(("shape", "value"), SHAPES.items(), ids=str)
def test_shape(shape: str, value: object) -> None:
    """A claim is described by its type, and a list by how many of what are in it."""
    assert describe(value) == shape


GROUPS: Final = (claim("groups", "editor"),)
NUMBERS: Final = (claim("level", 1, 2.5),)
CLAIMS: Final[dict[str, tuple[dict[str, Any], Any, str]]] = {
    "objects": (
        {"groups": [{"id": "s3cr3t"}] * 3},
        GROUPS,
        "claims.groups is a list of 3 objects, and the rule requires a string",
    ),
    "absent": ({"groups": ABSENT}, GROUPS, "claims.groups is absent"),
    "null": ({"groups": None}, GROUPS, "claims.groups is absent"),
    "text": ({"groups": "s3cr3t"}, GROUPS, "claims.groups is a string, and does not contain any required value"),
    "texts": (
        {"groups": ["s3cr3t"]},
        GROUPS,
        "claims.groups is a list of 1 string, and does not contain any required value",
    ),
    "no-texts-at-all": ({"groups": []}, GROUPS, "claims.groups is an empty list, and the rule requires a string"),
    "text-for-number": ({"level": "1"}, NUMBERS, "claims.level is a string, and the rule requires a number"),
    "every": (
        {"groups": ["editor"]},
        (claim("groups", "editor", "auditor", every=True),),
        "claims.groups is a list of 1 string, and does not have every required value",
    ),
    "quoted": ({}, (claim('["https://x.test/t"]', "a"),), 'claims["https://x.test/t"] is absent'),
    "below": ({}, (claim("realm.roles", "a"),), "claims.realm.roles is absent"),
    "overage": (
        {"groups": ABSENT, "_claim_names": {"groups": "src1"}},
        GROUPS,
        "claims.groups is absent: _claim_names says that it is elsewhere (group overage)",
    ),
    "overage-of-another-claim": ({"groups": ABSENT, "_claim_names": {"x": "src1"}}, GROUPS, "claims.groups is absent"),
    "overage-of-another-type": ({"groups": ABSENT, "_claim_names": "groups"}, GROUPS, "claims.groups is absent"),
    "distributed": (
        {"_claim_names": {"address": "src1"}},
        (claim("address", "x"),),
        "claims.address is absent: _claim_names says that it is elsewhere (a distributed claim)",
    ),
    "hasgroups": (
        {"groups": ABSENT, "hasgroups": True},
        GROUPS,
        "claims.groups is absent: hasgroups says that there are more than the token can hold (group overage)",
    ),
    "hasgroups-of-a-text": ({"groups": ABSENT, "hasgroups": "true"}, GROUPS, "claims.groups is absent"),
    "hasgroups-for-another-claim": ({"hasgroups": True}, (claim("roles", "x"),), "claims.roles is absent"),
}


@pytest.mark.parametrize(("members", "claims", "detail"), CLAIMS.values(), ids=CLAIMS)
def test_claim(members: dict[str, Any], claims: Any, detail: str) -> None:  # noqa: ANN401 - a column of the table
    """A rule that is not met says what the claim is, in words that tell its causes apart."""
    decision = decide(
        mint(claims=members), snapshot=make_snapshot(rule("r", "/**", claims=claims), identity=Identity())
    )

    assert (decision.reason, decision.detail) == (Reason.POLICY_DENIED, detail)


def test_claim_by_the_issuers_own_name() -> None:
    """A name from the issuer's `claims` is shown with the path that it stands for."""
    snapshot = make_snapshot(
        rule("r", "/**", claims=GROUPS), a=issuer_a(aliases={"groups": ClaimPath(("ext", "groups"))})
    )

    assert decide(mint(ext={}), snapshot=snapshot).detail == "claims.groups (ext.groups) is absent"


SCOPES: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "absent": ({}, "scope lacks a"),
    "objects": ({"scope": [{"a": 1}]}, "scope lacks a: scope is a list of 1 object, scp is absent"),
    "hidden": ({"scope": {}, "scp": ["a"]}, "scope lacks a: scope is an object, scp is a list of 1 string"),
    "others": ({"scope": "b"}, "scope lacks a"),
}


@pytest.mark.parametrize(("members", "detail"), SCOPES.values(), ids=SCOPES)
def test_scopes(members: dict[str, Any], detail: str) -> None:
    """If no scope at all was granted, the detail says what is in their place."""
    assert decide(mint(claims=members), snapshot=make_snapshot(rule("r", "/**", scopes=("a",)))).detail == detail


STEP_UP: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "acr": ({"acr": "0"}, {"acr": ("2",)}, "acr is not what the rule requires"),
    "acr-absent": ({}, {"acr": ("2",)}, "acr is absent"),
    "acr-a-number": ({"acr": 2}, {"acr": ("2",)}, "acr is a number"),
    "amr": ({"amr": ["pwd"]}, {"amr": ("otp",)}, "amr is not what the rule requires"),
    "amr-a-text": ({"amr": "otp"}, {"amr": ("otp",)}, "amr is a string"),
    "age": ({"auth_time": T - 61}, {"max_age": 60}, "auth_time is 61 s ago, at most 60 s"),
    "age-before-1970": ({"auth_time": -1}, {"max_age": 60}, f"auth_time is {T + 1:.0f} s ago, at most 60 s"),
    "age-ahead": ({"auth_time": T + 9}, {"max_age": 60}, "auth_time is 9 s ahead"),
    "age-absent": ({}, {"max_age": 60}, "auth_time is absent"),
    "age-a-text": ({"auth_time": str(T)}, {"max_age": 60}, "auth_time is a string"),
    "age-a-boolean": ({"auth_time": True}, {"max_age": 60}, "auth_time is a boolean"),
    "both": ({"acr": "0"}, {"acr": ("2",), "max_age": 60}, "auth_time is absent"),
    "acr-alone-of-both": (
        {"acr": "0", "auth_time": T},
        {"acr": ("2",), "max_age": 60},
        "acr is not what the rule requires",
    ),
}


@pytest.mark.parametrize(("members", "wanted", "detail"), STEP_UP.values(), ids=STEP_UP)
def test_step_up(members: dict[str, Any], wanted: dict[str, Any], detail: str) -> None:
    """A login that does not suffice is described by the claim that says so."""
    decision = decide(mint(claims=members), snapshot=make_snapshot(rule("r", "/**", **wanted)))

    assert (decision.reason, decision.detail) == (Reason.STEP_UP_REQUIRED, detail)


@pytest.mark.parametrize("factor", [10**3, 10**6, 10**9])
def test_auth_time_in_milliseconds(factor: int) -> None:
    """Another login does not help against a wrong unit: it is the issuer's mistake, and read only for a max_age."""
    token = mint(auth_time=T * factor)

    asked = decide(token, snapshot=make_snapshot(rule("r", "/**", max_age=60, acr=("2",))))
    assert (asked.reason, asked.detail) == (
        Reason.CLAIMS_MALFORMED,
        "auth_time is above 10^11: milliseconds? A NumericDate is in seconds",
    )
    assert isinstance(decide(token), Allow)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_milliseconds(name: str) -> None:
    """A token whose times are in milliseconds is good for no age of the world, and its operator learns why."""
    denied = decide(mint(claims={name: (T + 300) * 1000}))

    assert (denied.reason, denied.detail) == (
        Reason.CLAIMS_MALFORMED,
        f"{name} is above 10^11: milliseconds? A NumericDate is in seconds",
    )


NUMERIC: Final = mint(sub=17, groups=ABSENT)
LAX: Final = issuer_a(required=("exp",))
SUB: Final = ClaimPath(("sub",))
NEEDS: Final[dict[str, dict[str, Any]]] = {
    "required": {"a": issuer_a()},
    "a-header": {"identity": Identity((header("x-user", "sub"),))},
    "a-header-beside-others": {"identity": Identity((PayloadHeader(header="x-p"), header("x-user", "sub")))},
    "a-header-by-another-name": {
        "a": issuer_a(required=("exp",), aliases={"user": SUB}),
        "identity": Identity((header("x-user", "user"),)),
    },
    "metadata": {"identity": Identity(metadata=(MetadataClaim("sub", SUB),))},
}


@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS)
def test_number_for_subject_if_it_is_needed(need: dict[str, Any]) -> None:
    """A `sub` that is a number is refused by what reads it: 1e2 and 100 are one number, and two subjects."""
    denied = decide(NUMERIC, snapshot=make_snapshot(**{"a": LAX, "identity": Identity(), **need}))

    assert isinstance(denied, Deny)
    assert (denied.reason, denied.detail) == (Reason.CLAIMS_MALFORMED, "sub is not a string")


def test_number_for_subject_in_a_rule() -> None:
    """A rule over `sub` is not met by a number either, not even by the same."""
    snapshot = make_snapshot(rule("r", "/**", claims=(claim("sub", 17),)), a=LAX, identity=Identity())

    assert decide(NUMERIC, snapshot=snapshot).detail == "sub is not a string"


class _NotRoot:
    """A condition that holds for every subject but one."""

    def holds(self, request: object, params: object, claims: Claims) -> bool:
        return claims.members.get("sub") != "root"


def test_number_for_subject_in_a_condition() -> None:
    """A condition over `sub` is not evaluated for a number, which is no text, and so is not `root` either."""
    read, unread = (
        make_snapshot(rule("r", "/**", condition=_NotRoot(), condition_reads=reads), a=LAX, identity=Identity())
        for reads in ((SUB,), ())
    )

    assert decide(NUMERIC, snapshot=read).detail == "sub is not a string"
    assert isinstance(decide(mint(), snapshot=read), Allow)
    assert isinstance(decide(NUMERIC, snapshot=unread), Allow)


@pytest.mark.parametrize("sub", [17, None, [], {}, True], ids=str)
def test_subject_of_any_form_if_nothing_needs_it(sub: object) -> None:
    """Where no header, no rule and no required claim is about `sub`, it may be what it likes, and is no one's name."""
    snapshot = make_snapshot(a=LAX, identity=Identity((header("x-user-groups", "groups", join=","),)))
    allowed = decide(mint(sub=sub), snapshot=snapshot)

    assert isinstance(allowed, Allow)
    assert allowed.trail.subject is None


@pytest.mark.parametrize("scope", [None, "", [], " "], ids=repr)
def test_empty_scope_does_not_hide_scp(scope: object) -> None:
    """An issuer that writes both members, one of them empty, has granted what the other one says."""
    scoped = make_snapshot(rule("r", "/**", scopes=("orders:read",)))

    assert isinstance(decide(mint(scope=scope, scp="orders:read"), snapshot=scoped), Allow)


def test_null_audience_does_not_hide_the_claim_that_counts() -> None:
    """Where the audience is in another claim, a null `aud` beside it is absent."""
    by_client = make_snapshot(a=issuer_a(audience_claim="client_id"))

    assert isinstance(decide(mint(aud=None, client_id="api"), snapshot=by_client), Allow)
    assert decide(mint(aud=None)).reason is Reason.CLAIMS_MALFORMED


def test_absent_audience_is_told_from_another_one() -> None:
    """A token for no one in particular is not confused with one for another service."""
    details = [decide(token).detail for token in (mint(aud=ABSENT), mint(aud="other"), mint(aud=[]))]

    assert details == [
        "aud is absent: it must name one of the issuer's audiences",
        "aud has none of the issuer's audiences",
        "aud has none of the issuer's audiences",
    ]
