"""The fixed set of reasons for decisions, and the wire status of each.

Rules of this file:
1. Every decision has exactly one `Reason`; it is the metric label, the log field and the span attribute.
2. Every reason has exactly one `WireStatus`; a denial is never built from anything else.
3. The client sees the status, the operator sees the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why a request was allowed or denied."""

    AUTHENTICATED = "authenticated"
    ANONYMOUS = "anonymous"
    PUBLIC = "public"

    TOKEN_MISSING = "token_missing"
    TOKEN_MULTIPLE = "token_multiple"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_TOO_LARGE = "token_too_large"
    HEADER_INVALID = "header_invalid"
    ALG_NOT_ALLOWED = "alg_not_allowed"
    CRIT_UNSUPPORTED = "crit_unsupported"
    TYP_NOT_ALLOWED = "typ_not_allowed"
    ISSUER_UNKNOWN = "issuer_unknown"
    KEY_NOT_FOUND = "key_not_found"
    KEY_AMBIGUOUS = "key_ambiguous"
    KEY_UNUSABLE = "key_unusable"
    SIGNATURE_INVALID = "signature_invalid"
    CLAIMS_MALFORMED = "claims_malformed"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    AUDIENCE_MISMATCH = "audience_mismatch"
    TOKEN_BOUND = "token_bound"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_INACTIVE = "token_inactive"
    PROOF_INVALID = "proof_invalid"
    NONCE_REQUIRED = "nonce_required"
    STEP_UP_REQUIRED = "step_up_required"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    POLICY_DENIED = "policy_denied"
    HEADER_UNSAFE = "header_unsafe"
    UPSTREAM_TOKEN_REFUSED = "upstream_token_refused"
    REQUEST_MALFORMED = "request_malformed"
    PATH_AMBIGUOUS = "path_ambiguous"
    KEYS_UNAVAILABLE = "keys_unavailable"
    INTROSPECTION_UNAVAILABLE = "introspection_unavailable"
    UPSTREAM_TOKEN_UNAVAILABLE = "upstream_token_unavailable"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


class Rejected(Exception):
    """Raised by every check of the core. *detail* is for the operator and never sent to the client.

    *scopes*, *acr_values*, *max_age* (seconds) and *nonce* are for the challenge: what a request needs in order to be
    accepted (RFC 6750 section 3, RFC 9470 section 3, RFC 9449 section 9). *audiences* are for the operator alone.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        scopes: tuple[str, ...] = (),
        acr_values: tuple[str, ...] = (),
        max_age: int | None = None,
        audiences: frozenset[str] = frozenset(),
        nonce: str | None = None,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.scopes = scopes
        self.acr_values = acr_values
        self.max_age = max_age
        self.audiences = audiences
        self.nonce = nonce


@dataclass(frozen=True, slots=True)
class WireStatus:
    """The response for a reason.

    *http* is the status for the client, *code* the `google.rpc.Code` of the response to Envoy, *grpc* the `grpc-status`
    for a gRPC client. With *challenge*, `WWW-Authenticate` is added; *error* is its code by RFC 6750 or RFC 9470.
    *retry_after* is in seconds.
    """

    http: int
    code: int
    grpc: int = 0
    challenge: bool = False
    error: str | None = None
    retry_after: int | None = None


_OK: Final = 0
_INVALID_ARGUMENT: Final = 3
_PERMISSION_DENIED: Final = 7
_INTERNAL: Final = 13
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16

_ALLOW: Final = WireStatus(200, _OK)
_INVALID_TOKEN: Final = WireStatus(401, _UNAUTHENTICATED, _UNAUTHENTICATED, challenge=True, error="invalid_token")
_FORBIDDEN: Final = WireStatus(403, _PERMISSION_DENIED, _PERMISSION_DENIED)
_BAD_REQUEST: Final = WireStatus(400, _PERMISSION_DENIED, _INVALID_ARGUMENT)
_TRY_LATER: Final = WireStatus(503, _PERMISSION_DENIED, _UNAVAILABLE, retry_after=1)


def _proof_error(error: str) -> WireStatus:
    """RFC 9449 section 7.1: the error of a proof, always 401."""
    return WireStatus(401, _UNAUTHENTICATED, _UNAUTHENTICATED, challenge=True, error=error)


WIRE_STATUS: Final[Mapping[Reason, WireStatus]] = {
    Reason.AUTHENTICATED: _ALLOW,
    Reason.ANONYMOUS: _ALLOW,
    Reason.PUBLIC: _ALLOW,
    # RFC 6750 section 3.1: without any authentication information, no error code.
    Reason.TOKEN_MISSING: WireStatus(401, _UNAUTHENTICATED, _UNAUTHENTICATED, challenge=True),
    Reason.TOKEN_MULTIPLE: WireStatus(
        400, _PERMISSION_DENIED, _INVALID_ARGUMENT, challenge=True, error="invalid_request"
    ),
    Reason.TOKEN_MALFORMED: _INVALID_TOKEN,
    Reason.TOKEN_TOO_LARGE: _INVALID_TOKEN,
    Reason.HEADER_INVALID: _INVALID_TOKEN,
    Reason.ALG_NOT_ALLOWED: _INVALID_TOKEN,
    Reason.CRIT_UNSUPPORTED: _INVALID_TOKEN,
    Reason.TYP_NOT_ALLOWED: _INVALID_TOKEN,
    Reason.ISSUER_UNKNOWN: _INVALID_TOKEN,
    Reason.KEY_NOT_FOUND: _INVALID_TOKEN,
    Reason.KEY_AMBIGUOUS: _INVALID_TOKEN,
    Reason.KEY_UNUSABLE: _INVALID_TOKEN,
    Reason.SIGNATURE_INVALID: _INVALID_TOKEN,
    Reason.CLAIMS_MALFORMED: _INVALID_TOKEN,
    Reason.TOKEN_EXPIRED: _INVALID_TOKEN,
    Reason.TOKEN_NOT_YET_VALID: _INVALID_TOKEN,
    Reason.AUDIENCE_MISMATCH: _INVALID_TOKEN,
    Reason.TOKEN_BOUND: _INVALID_TOKEN,
    Reason.TOKEN_REVOKED: _INVALID_TOKEN,
    Reason.TOKEN_INACTIVE: _INVALID_TOKEN,
    Reason.PROOF_INVALID: _proof_error("invalid_dpop_proof"),
    Reason.NONCE_REQUIRED: _proof_error("use_dpop_nonce"),
    Reason.STEP_UP_REQUIRED: WireStatus(
        401, _UNAUTHENTICATED, _UNAUTHENTICATED, challenge=True, error="insufficient_user_authentication"
    ),
    Reason.INSUFFICIENT_SCOPE: WireStatus(
        403, _PERMISSION_DENIED, _PERMISSION_DENIED, challenge=True, error="insufficient_scope"
    ),
    Reason.POLICY_DENIED: _FORBIDDEN,
    Reason.HEADER_UNSAFE: _FORBIDDEN,
    Reason.UPSTREAM_TOKEN_REFUSED: _FORBIDDEN,
    Reason.REQUEST_MALFORMED: _BAD_REQUEST,
    Reason.PATH_AMBIGUOUS: _BAD_REQUEST,
    Reason.KEYS_UNAVAILABLE: _TRY_LATER,
    Reason.INTROSPECTION_UNAVAILABLE: _TRY_LATER,
    Reason.UPSTREAM_TOKEN_UNAVAILABLE: _TRY_LATER,
    Reason.OVERLOADED: _TRY_LATER,
    Reason.INTERNAL_ERROR: WireStatus(500, _PERMISSION_DENIED, _INTERNAL),
}
