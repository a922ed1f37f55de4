"""The `WWW-Authenticate` of a denial (RFC 6750 section 3, RFC 9449 section 7.1, RFC 9470 section 3, RFC 9728)."""

from __future__ import annotations

from authz.core.decision import Deny
from authz.core.dpop import SCHEME
from authz.core.reasons import WIRE_STATUS


def write_challenge(
    denial: Deny, *, realm: str, resource_metadata: str | None = None, proof_algorithms: tuple[str, ...] = ()
) -> str | None:
    """Return the challenge for *denial*, or None if its reason has none. It contains no text of the token.

    It is one for each scheme of the denial. *proof_algorithms* are the `algs` of DPoP (RFC 9449 section 7.1).
    """
    status = WIRE_STATUS[denial.reason]
    if not status.challenge:
        return None
    parameters: list[tuple[str, str]] = [("realm", realm)]
    if status.error:
        parameters.append(("error", status.error))
    if denial.scopes:
        parameters.append(("scope", " ".join(denial.scopes)))
    if denial.acr_values:
        parameters.append(("acr_values", " ".join(denial.acr_values)))
    if denial.max_age is not None:
        parameters.append(("max_age", str(denial.max_age)))
    if resource_metadata:
        parameters.append(("resource_metadata", resource_metadata))
    own = {SCHEME: [("algs", " ".join(proof_algorithms))]}
    return ", ".join(f"{scheme} {_write(parameters + own.get(scheme, []))}" for scheme in denial.trail.schemes)


def _write(parameters: list[tuple[str, str]]) -> str:
    return ", ".join(f'{name}="{_quoted(value)}"' for name, value in parameters)


def _quoted(text: str) -> str:
    """Escape for a quoted-string (RFC 9110 section 5.6.4)."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
