"""SPIFFE IDs, and the issuer of a JWT-SVID, which need not have an `iss`.

The SPIFFE Identity and Verifiable Identity Document, section 2; SPIFFE JWT-SVID, sections 3 and 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SCHEME: Final = "spiffe://"
_MAX_ID: Final = 2048  # octets; each is one character, because an ID is ASCII
_ID: Final = re.compile(r"(spiffe://[a-z0-9._-]{1,255})(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)*")


def trust_domain(subject: object) -> str | None:
    """Return `spiffe://DOMAIN` of a SPIFFE ID; None if *subject* is something else."""
    match = _ID.fullmatch(subject) if isinstance(subject, str) and len(subject) <= _MAX_ID else None
    return match[1] if match else None


def claimed_issuer(members: Mapping[str, object]) -> object:
    """Return the `iss` of these claims, or if there is none the trust domain of `sub`, whose keys must then verify."""
    return members["iss"] if "iss" in members else trust_domain(members.get("sub"))
