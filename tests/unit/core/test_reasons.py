"""Proves authz.core.reasons: every word means on the wire what the table says."""

from __future__ import annotations

import pytest

from authz.core.reasons import WIRE_STATUS, Reason, Rejected

# http, code, grpc, error of the challenge ("" for a challenge without error, None for no challenge), Retry-After
INVALID_TOKEN = (401, 16, 16, "invalid_token", None)
MEANINGS: dict[tuple[int, int, int, str | None, int | None], set[str]] = {
    (200, 0, 0, None, None): {"authenticated", "anonymous", "public"},
    (401, 16, 16, "", None): {"token_missing"},
    (400, 7, 3, "invalid_request", None): {"token_multiple"},
    INVALID_TOKEN: {
        "token_malformed",
        "token_too_large",
        "header_invalid",
        "alg_not_allowed",
        "crit_unsupported",
        "typ_not_allowed",
        "issuer_unknown",
        "key_not_found",
        "key_ambiguous",
        "key_unusable",
        "signature_invalid",
        "claims_malformed",
        "token_expired",
        "token_not_yet_valid",
        "audience_mismatch",
        "token_bound",
        "token_revoked",
        "token_inactive",
    },
    (401, 16, 16, "insufficient_user_authentication", None): {"step_up_required"},
    (401, 16, 16, "invalid_dpop_proof", None): {"proof_invalid"},
    (401, 16, 16, "use_dpop_nonce", None): {"nonce_required"},
    (403, 7, 7, "insufficient_scope", None): {"insufficient_scope"},
    (403, 7, 7, None, None): {"policy_denied", "header_unsafe", "upstream_token_refused"},
    (400, 7, 3, None, None): {"request_malformed", "path_ambiguous"},
    (503, 7, 14, None, 1): {
        "keys_unavailable",
        "introspection_unavailable",
        "upstream_token_unavailable",
        "overloaded",
    },
    (500, 7, 13, None, None): {"internal_error"},
}


@pytest.mark.parametrize(
    ("meaning", "words"),
    MEANINGS.items(),
    ids=lambda part: str(sorted(part) if isinstance(part, set | frozenset) else part)[:40],
)
def test_meaning(meaning: tuple[object, ...], words: set[str]) -> None:
    """Status, gRPC codes, challenge and Retry-After of each reason are those of the table."""
    for word in words:
        answer = WIRE_STATUS[Reason(word)]
        error = (answer.error or "") if answer.challenge else None
        assert (answer.http, answer.code, answer.grpc, error, answer.retry_after) == meaning


def test_every_reason_has_one_answer() -> None:
    """The vocabulary is closed: no reason is without an answer, and the table above knows them all."""
    assert set(WIRE_STATUS) == set(Reason)
    assert sorted(word for words in MEANINGS.values() for word in words) == sorted(Reason)


def test_only_allows_are_ok() -> None:
    """Envoy lets pass what carries code 0: no refusal does (a default CheckResponse would)."""
    assert {reason for reason, answer in WIRE_STATUS.items() if answer.code == 0} == {
        Reason.AUTHENTICATED,
        Reason.ANONYMOUS,
        Reason.PUBLIC,
    }


def test_rejected_carries_what_would_have_sufficed() -> None:
    """A rejection has reason and detail, and room for scopes, acr values and age."""
    plain = Rejected(Reason.POLICY_DENIED, "why")
    assert (plain.reason, plain.detail) == (Reason.POLICY_DENIED, "why")
    assert (plain.scopes, plain.acr_values, plain.max_age) == ((), (), None)
    full = Rejected(Reason.STEP_UP_REQUIRED, "why", scopes=("a",), acr_values=("b",), max_age=5)
    assert (full.scopes, full.acr_values, full.max_age) == (("a",), ("b",), 5)


def test_rejected_shows_reason_and_detail() -> None:
    """A rejection that ends up in a traceback says there what it was."""
    assert repr(Rejected(Reason.POLICY_DENIED, "why")) == f"Rejected({Reason.POLICY_DENIED!r}, 'why')"
