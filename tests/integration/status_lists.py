"""Writes status lists by token-status-list: python status_lists.py < what status_lists.mjs reads."""

from __future__ import annotations

import json
import sys
from base64 import urlsafe_b64decode
from typing import Any

from token_status_list import IssuerStatusList  # type: ignore[import-not-found]


def write(given: dict[str, Any], bits: int, statuses: list[int]) -> dict[str, Any]:
    """Return the header and the claims of a list."""
    listing = IssuerStatusList.new(bits, len(statuses), "linear")
    for index, status in enumerate(statuses):
        listing[index] = status
    signed = listing.sign_jwt_payload(alg=given["alg"], kid=given["kid"], **given["claims"]).decode()
    header, payload = (json.loads(urlsafe_b64decode(part + "==")) for part in signed.split("."))
    return {"header": header, "payload": payload}


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    json.dump([write(asked, *each) for each in asked["lists"]], sys.stdout)
