"""Proves that a key service that is slow, throttles, resets or is away costs no other request, and allows no wrong one.

The whole way is real: configuration, keyring, lane, the client library of AWS, HTTPS.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

from authz.config.model import Config
from authz.core import base64url
from authz.demo.loopback import Responder
from authz.envoy import ext_authz_pb2 as wire
from authz.signing.public import PublicKey
from tests.fakes.idp import FakeIdp, fail
from tests.fakes.kms import ARN, FakeAws, amz_error, reset
from tests.fakes.tls import server_context
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.integration.station import Station

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
UNAVAILABLE = "upstream_token_unavailable"
MAX_CONCURRENT = 8  # questions to the service at one time


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeAws]:
    """Serve AWS KMS over HTTPS, with credentials in the environment."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with FakeAws(ec.generate_private_key(ec.SECP256R1()), tls=server_context(authority)) as server:
        yield server


@contextmanager
def station(
    aws: FakeAws, *, max_wait: str = "10s", patient: bool = False, more: str = ""
) -> Iterator[tuple[Station, FakeIdp]]:
    """Run a sidecar that mints tokens with the key of *aws*; a *patient* one waits for longer than settings allow.

    *more* are further settings of the tokens.
    """
    with FakeIdp() as idp:
        whole = f"""version: 1
issuers:
  a: {{issuer: '{idp.issuer}', audiences: [api], insecure: {{http: true}}}}
rules:
  - match: {{paths: [/public]}}
    allow: public
  - match: {{paths: ["/**"]}}
    allow: authenticated
identity:
  token:
    {{header: x-token, audience: [orders], issuer: 'https://gateway.test',
      lifetime: {"1h" if patient else "10s"}{more}}}
signing:
  keys:
    main:
      {{kind: aws_kms, key: '{ARN}', endpoint: '{aws.url}', timeout: 10s, max_wait: {max_wait},
        max_concurrent: {MAX_CONCURRENT}}}
"""
        made = Station(whole=whole).settle()
        if patient:
            made.config = without_haste(made.config)
        with made as sidecar:
            yield sidecar, idp


def without_haste(config: Config) -> Config:
    """Return *config* with bounds that only stop a hang: for a test that says itself when the service answers."""
    long = timedelta(seconds=HANG_SECONDS)
    keys = {
        name: key.model_copy(update={"timeout": long, "max_wait": long}) for name, key in config.signing.keys.items()
    }
    return config.model_copy(update={"signing": config.signing.model_copy(update={"keys": keys})})


def read_token(text: str, aws: FakeAws) -> dict[str, object]:
    """Return the claims of a token for the upstream, which the published key verifies."""
    message, _, signature = text.rpartition(".")
    assert PublicKey.of(aws.key.public_key()).verifies(message.encode(), base64url.decode(signature.encode()))
    claims: dict[str, object] = json.loads(base64url.decode(message.split(".")[1].encode()))
    return claims


def signed(sidecar: Station, token: str, aws: FakeAws) -> dict[str, object]:
    """Return the claims of the token for the upstream, which the published key verifies."""
    deadline = time.monotonic() + HANG_SECONDS
    while "x-token" not in (found := sidecar.identity(token, "GET api.test/orders")):
        assert time.monotonic() < deadline
    return read_token(found["x-token"], aws)


def test_a_key_in_a_service_signs(aws: FakeAws) -> None:
    """The upstream gets a token, which is used again; what is published verifies it."""
    with station(aws) as (sidecar, idp):
        token = idp.mint(sub="alice")
        assert signed(sidecar, token, aws)["sub"] == "alice"
        assert json.loads(sidecar.keyring.view.key_set)["keys"] == [dict(sidecar.keyring.view.public.popitem()[1])]  # type: ignore[attr-defined]
        asked = len(aws.asked)
        assert signed(sidecar, token, aws)["sub"] == "alice"
        assert len(aws.asked) <= asked + 1  # another period may have begun


def test_a_slow_service_holds_nobody_else(aws: FakeAws) -> None:
    """While it is silent, requests with a token at hand and public ones are answered, and the others wait in bounds."""
    with station(aws, max_wait="300ms") as (sidecar, idp):
        with aws.gate.closed():
            waiting = [sidecar.begin(idp.mint(sub=f"new-{number}")) for number in range(8)]
            assert aws.gate.held.wait(HANG_SECONDS)
            assert sidecar.ask(idp.mint(), "GET api.test/public") == "public"
            assert sidecar.ask("no.token.here") == "token_malformed"
            for answers in waiting:
                answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
                assert answer.dynamic_metadata.fields["reason"].string_value == UNAVAILABLE
                assert (answer.denied_response.status.code, answer.status.code) == (503, 7)
        assert signed(sidecar, idp.mint(sub="after"), aws)["sub"] == "after"


def test_a_service_that_takes_its_time_delays_only_those_who_need_it(aws: FakeAws) -> None:
    """Each signature takes 200 ms, or as here until the test says so: who needs a new one waits, and gets it then.

    Meanwhile the deciding thread goes on: tokens at hand, public requests and denials are answered. Of several requests
    with one new token, one asks; and at no time are more with the service than `max_concurrent`.
    """
    with station(aws, patient=True) as (sidecar, idp):
        known, shared = idp.mint(sub="known"), idp.mint(sub="shared")
        signed(sidecar, known, aws)
        asked = len(aws.asked)
        with aws.gate.closed():
            waiting = {f"new-{number}": sidecar.begin(idp.mint(sub=f"new-{number}")) for number in range(12)}
            together = [sidecar.begin(shared) for _ in range(8)]
            assert aws.gate.held.wait(HANG_SECONDS)
            for _ in range(3):
                assert read_token(sidecar.identity(known, "GET api.test/orders")["x-token"], aws)["sub"] == "known"
                assert sidecar.ask(known, "GET api.test/public") == "public"
                assert sidecar.ask("no.token.here") == "token_malformed"
            wait_until(lambda: len(aws.asked) == asked + MAX_CONCURRENT)
            assert all(answers.empty() for answers in (*waiting.values(), *together))
        for subject, answers in (*waiting.items(), *(("shared", each) for each in together)):
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            (text,) = (each.header.value for each in answer.ok_response.headers if each.header.key == "x-token")
            assert (answer.status.code, read_token(text, aws)["sub"]) == (0, subject)
        assert len(aws.asked) - asked < len(waiting) + len(together)


def test_equal_requests_at_one_time_are_transactions_of_their_own(aws: FakeAws) -> None:
    """Also without `x-request-id`: a `txn` is unique (draft-ietf-oauth-transaction-tokens-10), also of a remote key."""
    with station(aws, patient=True, more=", format: transaction-token, workload: gw") as (sidecar, idp):
        token = idp.mint(sub="alice")
        with aws.gate.closed():
            waiting = [sidecar.begin(token) for _ in range(4)]
            assert aws.gate.held.wait(HANG_SECONDS)
        found = []
        for answers in waiting:
            answer = wire.CheckResponse.FromString(answers.get(timeout=HANG_SECONDS))
            found += [each.header.value for each in answer.ok_response.headers if each.header.key == "x-token"]
        assert len({str(read_token(each, aws)["txn"]) for each in found}) == len(waiting)


FAULTS: dict[str, Responder] = {
    "throttles": amz_error("ThrottlingException"),
    "resets": reset,
    "is out of order": fail(500),
    "takes our rights": amz_error("AccessDeniedException"),
    "disables the key": amz_error("DisabledException"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_try_again_until_it_ends(aws: FakeAws, fault: Responder) -> None:
    """Never an allow without a token, and none that the published key does not verify; then it signs again."""
    with station(aws) as (sidecar, idp):
        assert signed(sidecar, idp.mint(sub="alice"), aws)["sub"] == "alice"
        aws.fault = fault
        assert {sidecar.ask(idp.mint(sub=f"new-{number}")) for number in range(8)} == {UNAVAILABLE}
        assert sidecar.asked("main", "breaker_open", "minted token") > 0
        aws.fault = None
        assert signed(sidecar, idp.mint(sub="after"), aws)["sub"] == "after"


def test_a_service_that_is_away(aws: FakeAws) -> None:
    """The last good token serves until it ends, and then the client is asked to try again."""
    with station(aws) as (sidecar, idp):
        token = idp.mint(sub="alice")
        until = signed(sidecar, token, aws)["exp"]
        assert isinstance(until, int)
        aws.stop()
        while (reason := sidecar.ask(token)) == "authenticated":
            assert time.time() < until + HANG_SECONDS
        assert reason == UNAVAILABLE
        assert time.time() > until - 5.0  # the token served nearly to its end: the next period's is not to be had
        assert sidecar.ask(token, "GET api.test/public") == "public"


def test_no_secret_leaves(aws: FakeAws, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the credentials nor the caller's token is in a log, or in the text of an error."""
    caplog.set_level("DEBUG", logger="authz")
    with station(aws) as (sidecar, idp):
        token = idp.mint()
        for fault in FAULTS.values():
            aws.fault = fault
            sidecar.ask(token)
        seen = caplog.text + repr(sidecar.keyring.view) + repr(sidecar.config) + json.dumps(sidecar.keyring.describe())
        assert SECRET not in seen
        assert token not in seen
        assert token.rpartition(".")[2] not in seen
