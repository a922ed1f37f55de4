"""The caller of an authenticated request, and what it requests."""

from __future__ import annotations

from dataclasses import field

from authz.core.claims import Claims
from authz.core.issuer import Issuer
from authz.core.policy import Rule
from authz.core.record import record
from authz.core.request import Request, Target


@record
class Caller:
    """An authenticated request: its *target*, the *rule* that matches, and its caller by issuer, claims and *token*.

    The token *is_new* if its signature was verified for this request.
    """

    request: Request
    target: Target
    rule: Rule
    issuer: Issuer
    claims: Claims
    token: str = field(default="", repr=False)
    is_new: bool = False
