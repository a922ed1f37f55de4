"""Proves authz.telemetry.logs: JSON lines for machines, text for people, one line for each record."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from authz.core.authorize import authorize
from authz.core.decision import AuditTrail, Deny
from authz.core.reasons import Reason
from authz.telemetry.audit import AuditEntry, audit_entry
from authz.telemetry.background import BackgroundStream
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.logs import MAX_TRACEBACKS, PERIOD, DecisionRecord, log_decision, lost_lines, set_up_logging
from tests.fakes.waiting import HANG_SECONDS
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask
from tests.unit.telemetry import hostile
from tests.unit.telemetry.capturing import logging_to, parsed

log = logging.getLogger("authz.test")


def test_json_lines_can_be_parsed() -> None:
    """Each record is one JSON object with time, level, logger, message and its extra fields."""
    with logging_to("json") as stream:
        log.info("said %s", "a\nb", extra={"kid": '"x"', "rule": None})
        log.warning("again")
    first, second = parsed(stream)
    assert first.pop("time")
    assert first == {"level": "INFO", "logger": "authz.test", "message": "said a\nb", "kid": '"x"', "rule": None}
    assert (second["level"], second["message"]) == ("WARNING", "again")


def test_an_exception_is_one_json_line() -> None:
    """A traceback does not break the line."""
    with logging_to("json") as stream:
        try:
            raise ValueError("why\nnot")
        except ValueError:
            log.exception("broke")
    (line,) = parsed(stream)
    assert "why\nnot" in line["exc_info"]


def _fail_at(seconds: float, lineno: int = 1) -> logging.LogRecord:
    error = ValueError("again")
    exc_info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("authz.test", logging.ERROR, "checker.py", lineno, "check failed", (), exc_info)
    record.created = seconds
    return record


def test_a_check_that_fails_each_time_does_not_fill_the_disk() -> None:
    """One line of code writes a few tracebacks a minute; the next minute counts how many more there were."""
    with logging_to("json") as stream:
        for index in range(MAX_TRACEBACKS + 7):
            log.handle(_fail_at(1000 + index))
        log.handle(_fail_at(1001, lineno=2))  # of another place
        log.handle(_fail_at(1000 + PERIOD))
    lines = parsed(stream)
    assert len(lines) == MAX_TRACEBACKS + 2
    assert [line.get("suppressed") for line in lines] == [None] * (MAX_TRACEBACKS + 1) + [7]


def test_tracebacks_go_on_when_the_clock_was_set_back() -> None:
    """The wall clock of a record may jump."""
    with logging_to("json") as stream:
        for _ in range(MAX_TRACEBACKS + 1):
            log.handle(_fail_at(1000))
        log.handle(_fail_at(10))
    assert len(parsed(stream)) == MAX_TRACEBACKS + 1


def test_text_lines_are_for_people() -> None:
    """Level, message and the fields that have a value."""
    with logging_to("text") as stream:
        log.info("said", extra={"kid": "k1", "rule": None, "duration_us": 7})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(" INFO    said kid=k1 duration_us=7")


def test_no_value_of_a_text_line_forges_a_field() -> None:
    """A value with spaces cannot be taken for the next field."""
    with logging_to("text") as stream:
        log.info("said", extra={"path": "/a decision=allow\nand=so", "kid": '"', "decision": "deny"})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r' said path="/a decision=allow\nand=so" kid="\"" decision=deny')


@pytest.mark.parametrize(("level", "lines"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_for_our_own_lines(level: str, lines: int) -> None:
    """Below it nothing is written; libraries speak from warning on."""
    with logging_to("json", level=level) as stream:
        for method in (log.debug, log.info, log.warning, log.error):
            method("x")
        logging.getLogger("grpc").info("y")
        assert len(parsed(stream)) == lines
        logging.getLogger("grpc").warning("z")
        assert len(parsed(stream)) == lines + 1


def test_what_clients_wrote_is_not_told_by_grpc() -> None:
    """Its inner layer would write metadata that is no UTF-8, a traceback for each call."""
    with logging_to("json") as stream:
        logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on %r", b"\xff")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("log_format", "shown"), [("json", '"worker": 1}'), ("text", " worker=1")])
def test_a_worker_signs_its_lines(log_format: str, shown: str) -> None:
    """Each line of one of several processes has its number, a library's and those after a reload too."""
    with logging_to(log_format, worker=1) as stream:
        log.info("one", extra={"kid": "k"})
        set_up_logging(level="info", log_format=log_format)
        log.info("two")
        logging.getLogger("grpc").warning("three")
    assert [line.endswith(shown) for line in stream.getvalue().splitlines()] == [True] * 3
    with logging_to(log_format) as stream:
        log.info("one")
    assert "worker" not in stream.getvalue()


def test_setting_up_again_replaces() -> None:
    """A second set-up does not write each line twice."""
    with logging_to("json") as outer:
        with logging_to("json") as inner:
            log.info("once")
        assert parsed(outer) == []
        assert len(parsed(inner)) == 1


class _Stubborn:
    def __str__(self) -> str:
        raise TypeError("cannot be written")


def test_a_line_that_cannot_be_written_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    """It neither raises nor blocks anyone who logs by a traceback on stderr; the count outlives a reload."""
    before = lost_lines()
    with logging_to("text") as stream:
        for _ in range(3):
            log.info("said %s", _Stubborn())
        set_up_logging(level="debug", log_format="json")
        log.info("said %s", _Stubborn())
        log.info("good")
        assert lost_lines() == 4
    assert capfd.readouterr().err == ""
    told, good = stream.getvalue().splitlines()
    assert told == "a log line of authz.test was lost: TypeError"
    assert "good" in good
    assert lost_lines() == before


def entries() -> Iterator[AuditEntry]:
    """Yield what is recorded of all that an attacker sends, and of decisions with each field."""
    for number, request in enumerate(hostile.requests()):
        record = CheckRecord(authorize(request, DEFAULT_SNAPSHOT, T), f"{number:016x}", request, number / 3e6)
        yield audit_entry(record, 0.0, name_client=bool(number % 3))
    trail = AuditTrail("it\u00e9ms", '"a"', "RS256", "k1", audience="b", expected_audience=frozenset({"c"}))
    trail = replace(trail, subject="bob", thumbprint="t" * 43, claimed_issuer="https://x.test")
    for reason in Reason:
        record = CheckRecord(Deny(reason, trail, f'why "{reason}"\n\u00e9'), "id", ask(), 0.0000015)
        yield audit_entry(record, 0.0, name_client=True)
        yield audit_entry(replace(record, request=None), 0.0, name_client=True)
        yield audit_entry(record, 0.0, name_client=True, brief=True)


@pytest.mark.parametrize("log_format", ["json", "text", "ecs"])
@pytest.mark.parametrize("worker", [None, 1])
def test_the_line_of_a_decision_is_as_any_other(log_format: str, worker: int | None) -> None:
    """Its record is made in one step, and its JSON in parts; to the letter it is what logging would write."""
    decisions = logging.getLogger("authz.decisions")
    more = [("pdp", "policies"), ("trace_id", "t" * 32), ("span_id", "s" * 16)]
    with logging_to(log_format, worker=worker) as stream:
        for number, entry in enumerate(entries()):
            record = DecisionRecord(entry, more[: number % 4])
            decisions.handle(record)
            words, fields = (entry.decision, entry.reason.value), record.fields()
            usual = decisions.makeRecord("authz.decisions", 20, "x.py", 1, "%s %s", words, None, extra=fields)
            usual.created, usual.msecs = record.created, record.msecs
            decisions.handle(usual)
    lines = stream.getvalue().splitlines()
    assert len(lines) > 500
    assert lines[::2] == lines[1::2]


@pytest.mark.parametrize("created", [0.0, 1.9999999, 1_800_000_000.0004, 1_800_000_000.9996])
def test_the_time_of_a_decision_is_the_time_of_its_record(created: float) -> None:
    """To the millisecond, cut and not rounded up, as logging cuts it."""
    with logging_to("json") as stream:
        record = DecisionRecord(
            audit_entry(CheckRecord(Deny(Reason.OVERLOADED), "id", None, 0.0), 0.0, name_client=True)
        )
        record.created, record.msecs = created, created % 1 * 1000
        log.handle(record)
        log.handle(logging.makeLogRecord({"created": created, "msecs": created % 1 * 1000, "levelno": 20}))
    ours, theirs = parsed(stream)
    assert ours["time"] == theirs["time"]


@pytest.mark.parametrize("log_format", ["json", "text", "ecs"])
def test_a_decision_goes_straight_to_the_background(log_format: str, tmp_path: Path) -> None:
    """In the sidecar: the same lines, but for their times, in their order, and with the worker's number."""
    with logging_to(log_format, worker=3) as usual:
        for entry in entries():
            log_decision(entry, [("pdp", "policies")])
    with (tmp_path / "log").open("wb") as file, logging_to(log_format, worker=3):
        stream = BackgroundStream(file.fileno())
        set_up_logging(level="info", log_format=log_format, stream=stream, worker=3)
        for entry in entries():
            log_decision(entry, [("pdp", "policies")])
        assert stream.drain(seconds=HANG_SECONDS)
    direct = (tmp_path / "log").read_text()
    time = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:.]{12}Z")
    assert time.sub("T", direct) == time.sub("T", usual.getvalue())


def test_the_level_is_for_decisions_too(tmp_path: Path) -> None:
    """A line at level INFO is not written above it, by either way."""
    entry = next(entries())
    with logging_to("json", level="warning") as usual:
        log_decision(entry)
    assert usual.getvalue() == ""
    with (tmp_path / "log").open("wb") as file, logging_to("json"):
        stream = BackgroundStream(file.fileno())
        set_up_logging(level="warning", log_format="json", stream=stream)
        log_decision(entry)
        assert stream.drain(seconds=HANG_SECONDS)
    assert (tmp_path / "log").read_bytes() == b""


def test_a_decision_that_cannot_be_written_is_counted(tmp_path: Path) -> None:
    """As any line: it ends neither the report nor the decision."""
    entry = next(entries())._replace(decision_id=cast("str", object()))
    with (tmp_path / "log").open("wb") as file, logging_to("json"):
        stream = BackgroundStream(file.fileno())
        set_up_logging(level="info", log_format="json", stream=stream)
        log_decision(entry)
        assert lost_lines() == 1
        assert stream.drain(seconds=HANG_SECONDS)
    assert (tmp_path / "log").read_text() == "a log line of authz.decisions was lost: TypeError\n"
