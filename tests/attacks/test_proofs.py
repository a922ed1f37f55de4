"""Attacks on proofs of possession: what a thief has, what a hostile client writes; through the sidecar's own memory.

The promise about replays: each process accepts a proof once. Without a shared state, another process, or another
replica, accepts it too, within `dpop.max_age` of its iat; the last test says so, so that the page stays true.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest
from jwcrypto.common import base64url_decode, base64url_encode

from authz.core.decision import Decision
from authz.core.dpop import Nonces
from authz.core.key import thumbprint_of
from authz.core.needs import PROOF
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.demo.signing import SigningKey
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.facts.proofs import ProofLane, ProofMemory
from authz.telemetry.check_record import CheckRecord
from tests.cases.proofs import BOUND, NONCES, proof, world
from tests.fixtures import ABSENT, T, ask, mint
from tests.proofs import key, token_hash
from tests.unit.envoy.asking import write_check

STOLEN: Final = mint(cnf={"jkt": thumbprint_of(dict(key("Ed25519").public()))})
INNER: Final = "http://10.0.0.7:8080/items/1"
_IDS: Final = count()


class Process:
    """One process of the sidecar, with its own memory of proofs."""

    def __init__(self, snapshot: Snapshot | None = None, *, max_proofs: int = 1000) -> None:
        self.snapshot: Final = snapshot or world()
        self.now = float(T)
        memory = ProofMemory(
            max_proofs=max_proofs, now=lambda: self.now, monotonic=lambda: self.now, secret=b"of this process"
        )
        self.memory: Final = memory
        self.decided: Final[list[Decision]] = []
        self._checker: Final = Checker(
            snapshot=lambda: self.snapshot,
            gatherer=Gatherer({PROOF: ProofLane(memory)}, monotonic=lambda: 0.0),
            report=self._note,
            now=lambda: self.now,
            elapsed=lambda: 0.0,
            new_id=lambda: "id",
        )

    def _note(self, record: CheckRecord) -> None:
        self.decided.append(record.decision)

    def ask(self, written: str, token: str = BOUND, *, scheme: str = "DPoP", **others: Any) -> Reason:  # noqa: ANN401
        """Decide one request, as bytes."""
        headers = {"authorization": f"{scheme} {token}", "dpop": written}
        return self.decide(write_check(ask(headers=headers, **others))).reason

    def decide(self, call: bytes) -> Decision:
        """Decide one call of Envoy's."""
        answer = self._checker.check(call, received=0.0, time_left=None)
        assert isinstance(answer, bytes)
        return self.decided[-1]


def fresh(token: str = BOUND, **changes: Any) -> str:  # noqa: ANN401
    """Write a proof that was never used."""
    return proof(token, **{"jti": f"fresh {next(_IDS)}", **changes})


def by_a_secret() -> str:
    """A MAC under a key that the proof itself carries, or that is public."""
    secret = SigningKey.create("HS256", kid="secret")
    jwk = json.loads(secret.jwk.export())
    return sign(secret, {"typ": "dpop+jwt", "alg": "HS256", "jwk": jwk})


def by_a_mac_of_the_public_key() -> str:
    """The public key of the client as the secret of a MAC."""
    secret = SigningKey.create("HS256", kid="secret")
    return sign(secret, {"typ": "dpop+jwt", "alg": "HS256", "jwk": bare(key())})


def with_the_private_key() -> str:
    """The right key, with its private part in the header: anyone may have it now."""
    jwk = json.loads(key().jwk.export_private())
    return sign(key(), {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk})


def without_a_signature() -> str:
    """The algorithm none."""
    head = base64url_encode(json.dumps({"typ": "dpop+jwt", "alg": "none", "jwk": bare(key())}))
    return f"{head}.{fresh().split('.')[1]}."


def under_a_foreign_key() -> str:
    """The client's public key in the header, and a signature by the thief's."""
    return sign(SigningKey.create("ES256"), {"typ": "dpop+jwt", "alg": "ES256", "jwk": bare(key())})


def by_the_key_of_the_thief() -> str:
    """A good proof by another key than the token's."""
    return sign(key("Ed25519"), {"typ": "dpop+jwt", "alg": "Ed25519", "jwk": bare(key("Ed25519"))})


def by_a_key_that_is_named() -> str:
    """No key, but where to fetch one."""
    return sign(key(), {"typ": "dpop+jwt", "alg": "ES256", "jku": "https://evil.test/keys", "kid": "x"})


def the_token_itself() -> str:
    """An access token in place of the proof."""
    return BOUND


def bare(signing: SigningKey) -> dict[str, object]:
    """The public key alone."""
    return {name: value for name, value in signing.public().items() if name not in ("kid", "alg", "use")}


def sign(signing: SigningKey, head: dict[str, object]) -> str:
    """Sign the claims of a good proof."""
    body = {
        "jti": f"forged {next(_IDS)}",
        "htm": "GET",
        "htu": "https://api.test/items/1",
        "iat": T,
        "ath": token_hash(BOUND),
    }
    return signing.sign_bytes(json.dumps(body).encode(), header=json.dumps(head).encode())


FORGERIES: Final[dict[str, Callable[[], str]]] = {
    "swapped ath": lambda: fresh(STOLEN),
    "ath of the payload alone": lambda: fresh(ath=token_hash(BOUND.split(".")[1])),
    "no ath": lambda: fresh(ath=ABSENT),
    "another method": lambda: fresh(htm="POST"),
    "the method in lower case": lambda: fresh(htm="get"),
    "another host": lambda: fresh(htu="https://evil.test/items/1"),
    "our host as the user": lambda: fresh(htu="https://api.test@evil.test/items/1"),
    "our host as the query": lambda: fresh(htu="https://evil.test/?https://api.test/items/1"),
    "a backslash before the host": lambda: fresh(htu="https:\\\\api.test/items/1"),
    "another port": lambda: fresh(htu="https://api.test:8443/items/1"),
    "plain http": lambda: fresh(htu="http://api.test/items/1"),
    "the inner hop": lambda: fresh(htu=INNER),
    "an encoded slash": lambda: fresh(htu="https://api.test/items%2F1"),
    "another path": lambda: fresh(htu="https://api.test/items/1/.."),
    "another case of the path": lambda: fresh(htu="https://api.test/Items/1"),
    "from the future": lambda: fresh(iat=T + 31),
    "from the past": lambda: fresh(iat=T - 300),
    "at no time": lambda: fresh(iat=float("inf")),
    "a nonce of nobody": lambda: fresh(nonce="x"),
    "a nonce of another type": lambda: fresh(nonce=1),
    "a list as jti": lambda: fresh(jti=["a"]),
    "an empty jti": lambda: fresh(jti=""),
    "a MAC": by_a_secret,
    "a MAC of the public key": by_a_mac_of_the_public_key,
    "a private key": with_the_private_key,
    "no signature": without_a_signature,
    "another signer": under_a_foreign_key,
    "another key": by_the_key_of_the_thief,
    "a key elsewhere": by_a_key_that_is_named,
    "the token": the_token_itself,
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_forgeries(forge: Callable[[], str]) -> None:
    """Each is a fault of the proof, none of the token; and none takes room in the memory, nor spoils a good proof."""
    process = Process()

    assert process.ask(forge()) is Reason.PROOF_INVALID

    assert len(process.memory) == 0
    assert process.ask(fresh()) is Reason.AUTHENTICATED


def test_a_token_of_another_client() -> None:
    """A stolen token with a proof by the thief's own key, and a thief's token with the victim's proof."""
    process = Process()

    assert process.ask(fresh(STOLEN), STOLEN) is Reason.PROOF_INVALID
    assert process.ask(fresh(), STOLEN) is Reason.PROOF_INVALID
    assert process.ask(fresh(), scheme="Bearer") is Reason.PROOF_INVALID


@pytest.mark.parametrize("scheme", ["dpop", "DPOP", "dPoP"])
def test_replay_under_another_spelling(scheme: str) -> None:
    """What was used is used: whatever the scheme is written like, and whatever query is asked for."""
    process, once = Process(), fresh()

    assert process.ask(once, path="/items/1?a=1") is Reason.AUTHENTICATED
    assert process.ask(once, path="/items/1?a=2") is Reason.PROOF_INVALID
    assert process.ask(once, scheme=scheme) is Reason.PROOF_INVALID


def test_replay_of_an_altered_signature() -> None:
    """ECDSA signatures can be altered and stay valid: the proof is remembered by key and jti, not by its letters."""
    process, once = Process(), fresh()
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    signed, _, signature = once.rpartition(".")
    raw = base64url_decode(signature)
    other = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")

    assert process.ask(once) is Reason.AUTHENTICATED
    assert process.ask(f"{signed}.{base64url_encode(other)}") is Reason.PROOF_INVALID
    assert process.decided[-1].detail == "proof: used before"


def test_replay_until_the_end_of_the_window() -> None:
    """A proof cannot outlive the memory of it: as long as its iat would do it is known, then its iat is too old."""
    lasting = mint(cnf={"jkt": thumbprint_of(dict(key().public()))}, exp=T + 3600)
    process, once = Process(), fresh(lasting, iat=T + 30)

    assert process.ask(once, lasting) is Reason.AUTHENTICATED
    for later, detail in [(1, "used before"), (299, "used before"), (329, "used before"), (330, "made 300 s ago")]:
        process.now = T + later
        assert process.ask(once, lasting) is Reason.PROOF_INVALID
        assert process.decided[-1].detail == f"proof: {detail}"


def test_nonce_of_another_step() -> None:
    """A nonce serves in its step and the two beside it, not before, not after, and not under another secret."""
    process = Process(world(nonces=NONCES))
    step = NONCES.step
    for steps, reason in [
        (-2, Reason.NONCE_REQUIRED),
        (-1, Reason.AUTHENTICATED),
        (0, Reason.AUTHENTICATED),
        (1, Reason.AUTHENTICATED),
        (2, Reason.NONCE_REQUIRED),
    ]:
        assert process.ask(fresh(iat=T - 9999, nonce=NONCES.current(T + steps * step))) is reason, steps
    foreign = Nonces(b"secret of others").current(T)
    assert process.ask(fresh(nonce=foreign)) is Reason.NONCE_REQUIRED


def test_one_key_cannot_shut_out_others() -> None:
    """A client that uses up its share gets 503, which is no word about a replay; other clients pass."""
    process = Process(max_proofs=20)
    reasons = [process.ask(fresh()) for _ in range(12)]
    assert reasons == [Reason.AUTHENTICATED] * 10 + [Reason.OVERLOADED] * 2

    other = key("Ed25519")
    head = {"jwk": bare(other), "alg": "Ed25519", "typ": "dpop+jwt"}
    body = {"jti": "x", "htm": "GET", "htu": "https://api.test/items/1", "iat": T, "ath": token_hash(STOLEN)}
    written = other.sign_bytes(json.dumps(body).encode(), header=json.dumps(head).encode())
    assert process.ask(written, STOLEN) is Reason.AUTHENTICATED


def test_replay_at_another_process() -> None:
    """What is not promised: a process does not know what another one saw, within the window."""
    once, first, second = fresh(), Process(), Process()

    assert [process.ask(once) for process in (first, second)] == [Reason.AUTHENTICATED] * 2
    assert [process.ask(once) for process in (first, second)] == [Reason.PROOF_INVALID] * 2
