"""Proves authz.signing.minter and lanes: what is signed and kept, and that a slow key holds up no decision."""

from __future__ import annotations

import json
from dataclasses import replace
from threading import Event, Thread
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from authz.config.signing import KeyKind
from authz.config.signing import SigningKey as KeySection
from authz.core import base64url
from authz.core.authorize import authorize
from authz.core.decision import Allow
from authz.core.keys import KeySet
from authz.core.minting import MINTED, Minted, SigningKey
from authz.core.needs import Need, Unanswered
from authz.core.reasons import Reason
from authz.core.token import parse_token
from authz.envoy.gathering import KnownFacts
from authz.signing.keyring import KeyringView
from authz.signing.lanes import TokenLanes
from authz.signing.local import LocalSigner
from authz.signing.minter import MintedTokenCache, Minter, remote_source
from authz.signing.port import Failure, SigningUnavailable
from authz.signing.sources import RemoteKey
from authz.telemetry.facts import FactMetrics
from tests.cases.minting import minting
from tests.fixtures import T, ask, mint

LOCAL: Final = LocalSigner.generate("ES256")


class Remote:
    """A key that is elsewhere: it signs when it may, or fails."""

    algorithm = "ES256"
    kid = "remote"
    problem = ""

    def __init__(self) -> None:
        self.may_sign = Event()
        self.failure: SigningUnavailable | None = None
        self.signed = 0

    def public_jwk(self) -> dict[str, object]:
        return {**LOCAL.public_jwk(), "kid": self.kid}

    def sign(self, message: bytes) -> bytes:
        assert self.may_sign.wait(120)
        if self.failure is not None:
            raise self.failure
        self.signed += 1
        return LOCAL.sign(message)

    def close(self) -> None:
        pass


def lanes(signer: LocalSigner | Remote = LOCAL, *, now: float = T) -> tuple[TokenLanes, CollectorRegistry]:
    """Have lanes to one key."""
    registry = CollectorRegistry()
    made = TokenLanes(
        FactMetrics(registry), max_waiting=4, minter=Minter(lambda: now, iter(map(str, range(99))).__next__)
    )
    remote = {}
    if isinstance(signer, Remote):
        section = KeySection(kind=KeyKind.AWS_KMS, key="alias/ours")
        remote = {signer.kid: RemoteKey("ours", section, signer)}
    made.use(KeyringView(signers={signer.kid: signer}, remote_keys=remote))
    return made, registry


def order(kid: str = LOCAL.kid, **changes: Any) -> Need:  # noqa: ANN401 - changes of a request
    """Return what a decision wants signed."""
    (need,) = authorize(ask(mint()), minting(key=SigningKey(kid, "ES256"), **changes), T).trail.needs
    return need


def answers(made: TokenLanes, need: Need) -> list[object]:
    """Ask, and wait for the answer."""
    said: list[object] = []
    answered = Event()

    def done(fact: object) -> None:
        said.append(fact)
        answered.set()

    made.lane.ask(need, done)
    assert answered.wait(120)
    return said


def test_a_key_here_signs_within_the_decision() -> None:
    """The fact is found at once: the token is verified by the public key, and ends as ordered."""
    made, registry = lanes(now=T + 0.9)
    allowed = authorize(ask(mint()), minting(key=SigningKey(LOCAL.kid, "ES256")), T, KnownFacts({MINTED: made.lane}))
    assert isinstance(allowed, Allow)
    token = parse_token(dict(allowed.set_headers)["x-token"])
    assert token.typ == "JWT"
    claims = json.loads(KeySet.from_json(json.dumps({"keys": [LOCAL.public_jwk()]})).verify(token, ["ES256"]).payload)
    assert (claims["sub"], claims["aud"], claims["txn"]) == ("bob", "orders", "0")
    assert (claims["iat"], claims["exp"]) == (T, T + 120)
    assert allowed.trail.transaction == "0"
    value = registry.get_sample_value("authz_facts_total", {"kind": MINTED, "source": "signing", "result": "signed"})
    assert value == 1


def test_it_never_outlives_the_callers() -> None:
    """A caller's token that ends sooner ends ours; one that has ended meanwhile gets none."""
    snapshot = minting(key=SigningKey(LOCAL.kid, "ES256"))
    (need,) = authorize(ask(mint(exp=T + 9.9)), snapshot, T).trail.needs
    found = lanes()[0].lane.find(need)
    assert isinstance(found, Minted)
    assert found.expires == T + 9
    assert isinstance(lanes(now=T + 9.5)[0].lane.find(need), Unanswered)


def test_it_is_kept_for_the_next_request() -> None:
    """The second request gets the same token, without what is to be signed; transactions get one each."""
    made, _ = lanes()
    need = order()
    assert made.lane.recall(need.without_payload) is None
    first = made.lane.recall(need)
    assert isinstance(first, Minted)
    assert made.lane.recall(need.without_payload) is first
    once = order(reused=False)
    found = [made.lane.find(once) for _ in range(2)]
    assert len({each.transaction for each in found if isinstance(each, Minted)}) == 2


def test_a_slow_key_holds_up_no_decision() -> None:
    """A key that is elsewhere is asked on a thread of its lane: the deciding thread finds nothing, and goes on."""
    remote = Remote()
    made, _ = lanes(remote)
    need = order("remote")
    assert made.lane.find(need) is None
    assert made.lane.max_wait(need) == 1.0
    said: list[list[object]] = []
    asking = Thread(target=lambda: said.append(answers(made, need)))
    asking.start()
    assert made.lane.find(need) is None
    remote.may_sign.set()
    asking.join(120)
    ((minted,),) = said
    assert isinstance(minted, Minted)
    assert made.lane.recall(need.without_payload) is made.lane.recall(need) is minted
    made.close()


def test_a_key_that_cannot_sign_is_said() -> None:
    """Its failure is the reason that the operator sees, and no token."""
    remote = Remote()
    remote.failure = SigningUnavailable("throttled by the service", Failure.THROTTLED)
    remote.may_sign.set()
    made, registry = lanes(remote)
    (said,) = answers(made, order("remote"))
    assert said == Unanswered("throttled by the service")
    labels = {"kind": MINTED, "source": "ours", "result": "throttled"}
    assert registry.get_sample_value("authz_facts_total", labels) == 1
    made.close()


class _Broken(LocalSigner):
    error: Exception

    def sign(self, message: bytes) -> bytes:
        raise self.error


@pytest.mark.parametrize("error", [SigningUnavailable("cannot sign"), RuntimeError("secret")], ids=str)
def test_a_key_here_that_fails(error: Exception) -> None:
    """The request is denied as retryable, and nothing of the error is said to the client."""
    broken = _Broken.generate("ES256")
    broken.error = error
    found = lanes(broken)[0].lane.find(order(broken.kid))
    assert isinstance(found, Unanswered)
    assert "secret" not in found.why


def test_a_key_that_is_not_in_use_any_more() -> None:
    """A decision that was made with the keys of before is denied as retryable; with those of both it is answered."""
    made, _ = lanes()
    assert isinstance(made.lane.find(order("gone")), Unanswered)
    assert answers(made, order("gone")) == [made.lane.find(order("gone"))]
    assert made.lane.max_wait(order("gone")) == 0.0
    other = LocalSigner.generate("ES256")
    need = order()
    made.add(KeyringView(signers={other.kid: other}))
    assert isinstance(made.lane.find(need), Minted)
    assert isinstance(made.lane.find(order(other.kid)), Minted)
    assert isinstance(answers(made, order(other.kid))[0], Minted)
    made.use(KeyringView(signers={other.kid: other}))
    assert isinstance(made.lane.find(replace(need, identifier="another")), Unanswered)


def test_a_lane_stays_while_its_key_does() -> None:
    """A new view with the same key keeps the lane, and ends that of a key that is gone."""
    remote = Remote()
    made, _ = lanes(remote)
    view = KeyringView(signers={"remote": remote}, remote_keys={"remote": RemoteKey("ours", _section(), remote)})
    made.add(view)
    made.use(view)
    need = order("remote")
    made.use(KeyringView())
    assert isinstance(made.lane.find(need), Unanswered)
    made.close()


def _section() -> KeySection:
    return KeySection(kind=KeyKind.AWS_KMS, key="alias/ours")


def test_a_source_makes_what_a_lane_keeps() -> None:
    """The fact is kept for the lifetime of a token that is reused."""
    remote = Remote()
    remote.may_sign.set()
    fact = remote_source(Minter(lambda: T), remote)(order("remote"))
    assert (fact.ttl, fact.result) == (120.0, "signed")
    assert isinstance(fact.value, Minted)
    assert len(fact.value.transaction) == 32
    assert json.loads(base64url.decode(fact.value.text.split(".")[0].encode()))["kid"] == "remote"


def test_the_cache_is_bounded() -> None:
    """It keeps at most as many tokens as it may, and the newest of them."""
    cache = MintedTokenCache(lambda: 10)
    tokens = [Minted(str(number), "", 0.0) for number in range(100)]
    for token in tokens:
        cache.put(token.text, token)
        assert len(cache) <= 10
        assert cache.get(token.text) is token
    assert cache.get("0") is None


def test_a_decision_without_an_answer_is_retryable() -> None:
    """The reason is that of the token for the upstream."""
    decision = authorize(ask(mint()), minting(key=SigningKey("remote", "ES256")), T)
    assert decision.reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE
