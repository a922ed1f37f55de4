"""The request to sign a token that the sidecar mints, as the payload of a need.

It has one line for each part; the JSON that is written here has no line breaks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from functools import lru_cache
from typing import Final

from authz.core import base64url
from authz.core.record import record

write_json: Final = json.JSONEncoder(separators=(",", ":")).encode
write_string: Final = json.encoder.encode_basestring_ascii  # what `write_json` does with strings, without type checks


@record
class SigningTerms:
    """What all tokens of a configuration and a key, with the id *kid*, have in common.

    *header_json* is the JOSE header, *header_part* the same in base64url, followed by a dot. A token expires after
    *lifetime* seconds, and may be reused for *reuse_for* seconds.
    """

    header_json: str
    header_part: bytes
    kid: str
    lifetime: int
    reuse_for: float

    @property
    def jose_header(self) -> Mapping[str, object]:
        """The JOSE header."""
        members: dict[str, object] = json.loads(self.header_json)
        return members


@record
class SigningRequest:
    """A token to sign: its *terms*, and its claims as JSON, to which the signer adds the times and `txn`.

    The token expires at *not_after* at the latest, in whole seconds since the epoch.
    """

    terms: SigningTerms
    claims_json: str = field(repr=False)
    not_after: int | None

    @property
    def claims(self) -> dict[str, object]:
        """The claims."""
        members: dict[str, object] = json.loads(self.claims_json)
        return members


def write_signing_terms(*, algorithm: str, token_type: str, kid: str, lifetime: float, reuse_for: float) -> str:
    """Return the lines that all tokens have in common."""
    header = write_json({"alg": algorithm, "typ": token_type, "kid": kid})
    return f"{header}\n{lifetime}\n{reuse_for}"


def write_signing_request(terms: str, claims: str, not_after: int | None) -> str:
    """Return the request to sign *claims*, a JSON object, on *terms* from `write_signing_terms`."""
    return f"{terms}\n{'' if not_after is None else not_after}\n{claims}"


def read_signing_request(payload: str) -> SigningRequest:
    """Read what `write_signing_request` wrote."""
    terms, not_after, claims = payload.rsplit("\n", 2)
    return SigningRequest(_read_terms(terms), claims, int(not_after) if not_after else None)


@lru_cache(maxsize=16)
def _read_terms(text: str) -> SigningTerms:
    header, lifetime, reuse_for = text.split("\n")
    kid: str = json.loads(header)["kid"]
    return SigningTerms(header, base64url.encode(header.encode()) + b".", kid, int(float(lifetime)), float(reuse_for))
