"""Proves authz.core.steps: an observer gets each step that was passed, and no one else pays for it."""

from __future__ import annotations

from typing import Any

import pytest

from authz.core.authorize import authorize
from authz.core.reasons import Reason
from authz.core.steps import Step
from tests.fixtures import A_EC, DEFAULT_SNAPSHOT, T, ask, mint, signer

STRANGER = signer("RS256", "stranger")
GOOD = mint()
ENDS: dict[str, tuple[int, Reason, str | None, dict[str, Any]]] = {
    "malformed": (0, Reason.REQUEST_MALFORMED, GOOD, {"host": "a@b"}),
    "trick with connection": (0, Reason.REQUEST_MALFORMED, GOOD, {"headers": {"connection": "x-user-id"}}),
    "no rule": (1, Reason.POLICY_DENIED, GOOD, {"path": "/elsewhere"}),
    "odd spelling": (1, Reason.PATH_AMBIGUOUS, GOOD, {"path": "/items//1"}),
    "public": (2, Reason.PUBLIC, None, {"path": "/public/1"}),
    "no token": (2, Reason.TOKEN_MISSING, None, {}),
    "anonymous": (2, Reason.ANONYMOUS, None, {"path": "/mixed/1"}),
    "no JWS": (3, Reason.TOKEN_MALFORMED, "bad", {}),
    "unknown issuer": (4, Reason.ISSUER_UNKNOWN, mint(iss="https://evil.test"), {}),
    "another issuer's algorithm": (5, Reason.ALG_NOT_ALLOWED, mint(iss="https://b.test"), {}),
    "unknown key": (7, Reason.KEY_NOT_FOUND, mint(STRANGER), {}),
    "a stranger's signature": (8, Reason.SIGNATURE_INVALID, mint(STRANGER, header={"kid": "a-rsa"}), {}),
    "expired": (9, Reason.TOKEN_EXPIRED, mint(exp=T), {}),
    "bound": (10, Reason.TOKEN_BOUND, mint(cnf={"jkt": "x"}), {}),
    "not of the group": (11, Reason.POLICY_DENIED, mint(groups=[]), {"path": "/admin/1"}),
    "unsafe": (12, Reason.HEADER_UNSAFE, mint(sub="a\nb"), {}),
    "good": (13, Reason.AUTHENTICATED, mint(A_EC), {}),
}


@pytest.mark.parametrize(("last", "reason", "token", "request_"), ENDS.values(), ids=ENDS)
def test_told_in_order(last: int, reason: Reason, token: str | None, request_: dict[str, Any]) -> None:
    """The steps are observed from the first to the last that was passed, and watching changes no decision."""
    told: list[int] = []

    decision = authorize(ask(token, **request_), DEFAULT_SNAPSHOT, T, observe=lambda step, _: told.append(step))

    assert decision == authorize(ask(token, **request_), DEFAULT_SNAPSHOT, T)
    assert (decision.reason, told) == (reason, list(Step)[:last])
