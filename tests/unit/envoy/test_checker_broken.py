"""Proves authz.envoy.checker under faults: whatever is raised, wherever, the answer is a denial without details."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import cast

import pytest

from authz.core.claims import ClaimPath
from authz.core.identity import ConstantHeader, Identity, MetadataClaim
from authz.core.reasons import Reason
from authz.core.snapshot import Snapshot
from authz.envoy.checker import FALLBACK_RESPONSE
from authz.telemetry.report import CheckRecord
from tests.fixtures import ask, make_snapshot, mint, rule
from tests.unit.envoy.asking import ID, check, headers_of, make_checker, raiser, read, told, write_check
from tests.unit.envoy.breaking import (
    ERRORS,
    SECRET,
    STAGES,
    BrokenCondition,
    assert_internal_error,
    broken_verify,
    fixed,
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", STAGES)
def test_whatever_is_raised_wherever_is_a_denial(stage: str, error: BaseException) -> None:
    """No exception leaves a Check, none lets a request pass, and none shows its text."""
    assert_internal_error(check(**STAGES[stage](error)))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("stage", ["snapshot", "new_id", "elapsed", "report"])
def test_an_unseen_refusal_that_breaks_is_a_denial(stage: str, error: BaseException) -> None:
    """The answer to overload holds under the same faults."""
    checker = make_checker(**STAGES[stage](error))
    assert_internal_error(checker.reject(Reason.OVERLOADED, received=0.0))


@pytest.mark.parametrize("data", [None, 7, "text", [b""]], ids=repr)
def test_data_that_is_no_bytes_is_a_denial(data: object) -> None:
    """Decoding may fail in ways of its own."""
    assert read(check(cast("bytes", data))).status.code == 7


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_condition_that_breaks_denies(error: BaseException) -> None:
    """A rule's expression that fails is the rule's no; what is no Exception is ours."""
    condition = BrokenCondition(error)
    answer = check(write_check(ask(mint())), **fixed(make_snapshot(rule("r", "/items/**", condition=condition))))
    if isinstance(error, Exception):
        assert (told(answer), read(answer).status.code) == ("policy_denied", 7)
        assert SECRET.encode() not in answer
    else:
        assert_internal_error(answer)


@pytest.mark.parametrize(
    "identity",
    [
        Identity((ConstantHeader(header="x-user-id", value="\ud800"),)),
        Identity((ConstantHeader(header="\udcff", value="x"),)),
        Identity(metadata=(MetadataClaim("\ud800", ClaimPath(("sub",))),)),
    ],
    ids=["value", "name", "claim"],
)
def test_what_cannot_be_written_is_a_denial(identity: Identity) -> None:
    """A value that protobuf refuses never makes half an answer."""
    assert_internal_error(check(write_check(ask(mint())), **fixed(make_snapshot(identity=identity))))


@pytest.mark.parametrize("value", [7, ["x"]], ids=repr)
def test_a_value_of_another_type_is_a_denial(value: object) -> None:
    """The compiled form does not even make such a header; the pure one cannot write it."""
    with suppress(TypeError):
        identity = Identity((ConstantHeader(header="x-user-id", value=cast("str", value)),))
        assert_internal_error(check(write_check(ask(mint())), **fixed(make_snapshot(identity=identity))))


@pytest.mark.parametrize(
    "snapshot", [make_snapshot(shadow_all=True), make_snapshot(rule("s", "/items/**", shadow=True))]
)
def test_no_shadow_covers_an_internal_error(snapshot: Snapshot) -> None:
    """A shadow lets refusals pass, and never errors."""
    broken = replace(snapshot, verify_signature=broken_verify(MemoryError()))
    assert_internal_error(check(write_check(ask(mint())), **fixed(broken)))


def test_a_grpc_caller_learns_of_an_internal_error_in_its_own_way() -> None:
    """grpc-status 13 and short text, where Envoy by itself would make a 500 UNKNOWN and the body a message."""
    request = ask(headers={"content-type": "application/grpc"})
    message = read(check(write_check(request), now=raiser(ValueError(SECRET))))
    assert headers_of(message)["grpc-status"] == "13"
    assert message.denied_response.body == f"Internal Server Error, decision {ID}"


def test_the_operator_sees_which_request_broke() -> None:
    """The report has the request, where it could be read."""
    reports: list[CheckRecord] = []
    check(write_check(ask(path="/items/7")), report=reports.append, now=raiser(ValueError(SECRET)))
    check(b"", report=reports.append, snapshot=raiser(ValueError(SECRET)))
    assert [record.request and record.request.path for record in reports] == ["/items/7", None]


def test_an_internal_error_is_reported_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The operator sees it in the metrics under its name, and the exception in the log."""
    reports: list[CheckRecord] = []
    with caplog.at_level(logging.ERROR, "authz"):
        check(report=reports.append, now=raiser(ValueError(SECRET)))

    assert [record.decision.reason for record in reports] == [Reason.INTERNAL_ERROR]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


@contextmanager
def broken_log(error: BaseException) -> Iterator[None]:
    """Let every log line of the Checker raise."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error

    logger, handler = logging.getLogger("authz.envoy.checker"), Handler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_cannot_be_logged_is_a_denial(error: BaseException) -> None:
    """Where even the log of a failure fails, an answer that was made beforehand is left."""
    with broken_log(error):
        answer = check(now=raiser(ValueError(SECRET)))
    assert answer == FALLBACK_RESPONSE
    assert_internal_error(answer)


def test_the_last_resort_denies() -> None:
    """The answer of last resort is a denial by itself."""
    assert_internal_error(FALLBACK_RESPONSE)
