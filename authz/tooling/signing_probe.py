"""Try what gives the upstream its token: sign with each key, and ask for an exchange, by the code that serves.

1. Each key signs a JWT, and the code that verifies tokens verifies it with the public key that would be published.
2. Keys in the shared state are read, and something is written beside them.
3. The server that exchanges tokens is asked about one that was never issued: it must refuse that token, and not us.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from authz.config.model import Config
from authz.config.shared_state import SharedState
from authz.config.signing import SigningKey
from authz.core import base64url
from authz.core.exchange import EXCHANGED, ExchangeRefused
from authz.core.keys import KeySet
from authz.core.needs import Need
from authz.core.reasons import Rejected
from authz.core.token import parse_token
from authz.facts.source import SourceError
from authz.feeds.build_exchange import make_exchange
from authz.feeds.shared.connect import open_shared_state
from authz.feeds.shared.signing import SharedStore
from authz.feeds.shared.state import SharedStateError
from authz.signing.port import Signer, SigningUnavailable
from authz.signing.sources import make_signer
from authz.signing.state import StateError
from authz.telemetry.redaction import printable

_NEVER_ISSUED: Final = "authz-check-config-asks-whether-this-is-exchanged"


@dataclass(frozen=True, slots=True)
class ProbedSigning:
    """The result of one test: *what* was tested, whether it is *ok*, and a sentence about it."""

    what: str
    ok: bool
    finding: str

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"{self.what}: {printable(self.finding)}"

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"what": self.what, "ok": self.ok, "finding": self.finding}


def probe_signing(config: Config) -> Iterator[ProbedSigning]:
    """Try every signing key, and the exchange of tokens."""
    if config.identity.minted is not None:
        yield from (_try_key(name, section) for name, section in config.signing.keys.items())
        if config.shared_state is not None and config.signing.rotation.shared_secret_file is not None:
            yield _try_store(config.shared_state, Path(config.signing.rotation.shared_secret_file))
    if config.identity.exchange is not None:
        yield _try_exchange(config)


def _try_key(name: str, section: SigningKey) -> ProbedSigning:
    label = f"signing key {name}"
    try:
        signer = make_signer(section)
    except SigningUnavailable as error:
        return ProbedSigning(label, ok=False, finding=f"{error.failure.value}: {error}")
    try:
        _sign_and_verify(signer)
    except SigningUnavailable as error:
        return ProbedSigning(label, ok=False, finding=f"{error.failure.value}: {error}")
    except (Rejected, ValueError) as error:
        return ProbedSigning(label, ok=False, finding=f"what it signs is not verified with its public key: {error}")
    finally:
        signer.close()
    return ProbedSigning(label, ok=True, finding=f"signs by {signer.algorithm}, and key {signer.kid} verifies it")


def _try_store(section: SharedState, secret_file: Path) -> ProbedSigning:
    label = "signing keys in the shared state"
    try:
        with closing(open_shared_state(section)) as state:
            keys = SharedStore(state, secret_file).read().ring.keys
            beside = state.key("probe", secrets.token_hex(8))
            if not state.create(beside, milliseconds=1000) or state.replace(beside, b"", b""):
                return ProbedSigning(label, ok=False, finding="a value is replaced that was not read")
    except (SharedStateError, StateError) as error:
        return ProbedSigning(label, ok=False, finding=str(error))
    return ProbedSigning(label, ok=True, finding=f"{len(keys)} keys are read, and can be replaced")


def _sign_and_verify(signer: Signer) -> None:
    """Raises SigningUnavailable, Rejected, ValueError."""
    head = {"alg": signer.algorithm, "typ": "JWT", "kid": signer.kid}
    signing_input = b".".join(base64url.encode(json.dumps(part).encode()) for part in (head, {}))
    text = b".".join((signing_input, base64url.encode(signer.sign(signing_input)))).decode("ascii")
    keys = KeySet.from_json(json.dumps({"keys": [dict(signer.public_jwk())]}))
    keys.verify(parse_token(text), frozenset({signer.algorithm}))


def _try_exchange(config: Config) -> ProbedSigning:
    exchange = config.identity.exchange
    if exchange is None:
        raise ValueError("no exchange is configured")
    label = f"token exchange at {exchange.issuer}"
    token = config.identity.token
    sent = {"subject": _NEVER_ISSUED, "audiences": token.audience if token is not None else (), "scope": ""}
    source = make_exchange(config.issuers[exchange.issuer], exchange)
    try:
        fact = source(Need(EXCHANGED, exchange.issuer, None, payload=json.dumps(sent)))
    except SourceError as error:
        if error.result == "bad_request":  # RFC 8693 section 2.2.2: invalid_request, for a token that is not valid
            return ProbedSigning(
                label, ok=True, finding=f"refuses a token that was never issued, or our client: {error}"
            )
        return ProbedSigning(label, ok=False, finding=f"{error.result}: {error}")
    finally:
        source.close()
    if isinstance(fact.value, ExchangeRefused):
        return ProbedSigning(label, ok=True, finding=f"refuses a token that was never issued: {fact.value.why}")
    return ProbedSigning(label, ok=False, finding="gives a token for one that was never issued: this proves nothing")
