"""What is to be signed for a token that the sidecar mints, as the text that a need sends to the key.

It has a line for each part; no JSON that is written here has a line break.
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
write_string: Final = json.encoder.encode_basestring_ascii  # what `write_json` does with a string, without a look at it


@record
class SigningTerms:
    """What is the same for all tokens of a configuration and a key, whose id is *kid*.

    *header_json* is the JOSE header, *header_part* the same in base64url, with the dot after it. A token lives
    *lifetime* seconds, and may be sent again for *reuse_for* seconds.
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
    """What is to be signed by which *terms*: claims as a JSON text, to which times and `txn` are to be added.

    The token ends at *not_after* at the latest, in whole seconds since the epoch.
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
    """Write the lines that are the same for all tokens."""
    header = write_json({"alg": algorithm, "typ": token_type, "kid": kid})
    return f"{header}\n{lifetime}\n{reuse_for}"


def write_signing_request(terms: str, claims: str, not_after: int | None) -> str:
    """Write what is to be signed: *claims* as JSON, by what `write_signing_terms` wrote."""
    return f"{terms}\n{'' if not_after is None else not_after}\n{claims}"


def read_signing_request(sent: str) -> SigningRequest:
    """Read what `write_signing_request` wrote."""
    terms, end, claims = sent.rsplit("\n", 2)
    return SigningRequest(_read_terms(terms), claims, int(end) if end else None)


@lru_cache(maxsize=16)
def _read_terms(text: str) -> SigningTerms:
    header, lifetime, reuse_for = text.split("\n")
    kid: str = json.loads(header)["kid"]
    return SigningTerms(header, base64url.encode(header.encode()) + b".", kid, int(float(lifetime)), float(reuse_for))
