"""What an issuer would answer about a token (RFC 7662), in a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from authz.core.introspection import SIGNED_TYPE, Introspected, Introspection, SignedAnswer
from authz.core.needs import Need
from authz.demo.signing import SigningKey


class AnswerLane:
    """Answers every question about a token at once with *members*.

    *signer* returns the settings of an issuer by its configured name, its `iss` and the key that signs for it.
    """

    max_waiting: Final = 0

    def __init__(
        self, members: Mapping[str, object], signer: Callable[[str], tuple[Introspection | None, str, SigningKey]]
    ) -> None:
        self._members: Final = members
        self._signer: Final = signer

    def find(self, need: Need) -> Introspected | SignedAnswer:
        """Return the answer, signed (RFC 9701) if the issuer is asked for that."""
        rules, iss, key = self._signer(need.of)
        if rules is not None and rules.signed:
            claims = {"iss": iss, "aud": rules.client, "token_introspection": dict(self._members)}
            return SignedAnswer(key.sign(claims, header={**key.header(), "typ": SIGNED_TYPE}))
        return Introspected(self._members, json.dumps(self._members).encode())

    def ask(self, _need: Need, done: Callable[[object | None], None]) -> None:
        """Do nothing but call *done*: `find` always answers."""
        done(None)

    def max_wait(self, _need: Need) -> float:
        """Return 0: no check waits."""
        return 0.0
