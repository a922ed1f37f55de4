"""Proves authz.telemetry.recent: the last decisions, bounded in size, shown as the decision log shows them."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import count
from threading import Thread

import pytest

from authz.core.authorize import authorize
from authz.core.decision import Allow, AuditTrail, Decision, Deny
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.telemetry.audit import AuditEntry
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.metrics import Metrics
from authz.telemetry.recent import MAX_ALLOWED, MAX_REFUSED, DecisionFilter, RecentDecisions
from authz.telemetry.report import Reporting, reporter
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask, decide, mint
from tests.unit.telemetry import hostile
from tests.unit.telemetry.capturing import logging_to, parsed

ALL = DecisionFilter()
BUDGET = 2 * 1024 * 1024  # octets, of all that is kept


def ring(start: float = 1.0) -> RecentDecisions:
    """A ring whose clock goes on by a second with each decision."""
    return RecentDecisions(count(start).__next__)


def kept(recent: RecentDecisions, wanted: DecisionFilter = ALL) -> list[str]:
    """The ids of what is wanted, the newest first."""
    return [entry.decision_id for entry in recent.find(wanted)]


def fill(recent: RecentDecisions, decision: Decision, number: int, *, request: Request | None = None) -> None:
    """Keep a decision so often; the ids are numbers."""
    keep = recent.recorder(name_client=True)
    for each in range(number):
        keep(CheckRecord(decision, f"{decision.reason}-{each}", request or ask(mint()), 0.001))


DENY = Deny(Reason.TOKEN_EXPIRED)
ALLOW = Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail())
SHADOW = replace(ALLOW, reason=Reason.POLICY_DENIED, would_deny=True)


def test_the_newest_come_first_and_the_oldest_go() -> None:
    """There are so many places, and each new decision takes the oldest one's."""
    recent = ring()
    assert recent.complete_since() == 0.0
    fill(recent, DENY, MAX_REFUSED + 2)
    found = kept(recent)
    assert (len(found), found[0], found[-1]) == (MAX_REFUSED, f"token_expired-{MAX_REFUSED + 1}", "token_expired-2")
    assert recent.complete_since() == 3.0  # the third is the oldest that is there


def test_a_flood_of_allows_hides_no_denial() -> None:
    """Denials, and what a shadow rule would deny, have their own places."""
    recent = ring()
    fill(recent, DENY, 1)
    fill(recent, SHADOW, 1)
    fill(recent, ALLOW, MAX_ALLOWED * 3)
    found = kept(recent)
    assert len(found) == MAX_ALLOWED + 2
    assert found[-2:] == ["policy_denied-0", "token_expired-0"]


def test_a_second_of_many_allows_costs_no_more_than_its_share() -> None:
    """There is room for so many of each second, and none is kept that no one could read; it says since when all are."""
    times = [10.0 + number / 1000 for number in range(1000)] + [11.0, 11.5]
    recent = RecentDecisions(iter(times).__next__)
    keep = recent.recorder(name_client=True)
    for number in range(MAX_ALLOWED):
        keep(CheckRecord(ALLOW, str(number), ask(), 0.0))
    assert recent.complete_since() == 10.0
    for number in range(MAX_ALLOWED, 1000):
        keep(CheckRecord(ALLOW, str(number), ask(), 0.0))
    assert kept(recent)[0] == str(MAX_ALLOWED - 1)
    assert recent.complete_since() == 10.999
    keep(CheckRecord(ALLOW, "next", ask(), 0.0))
    assert (kept(recent)[0], kept(recent)[-1]) == ("next", "1")
    assert recent.complete_since() == 10.999
    keep(CheckRecord(DENY, "denied", ask(), 0.0))
    assert kept(recent)[0] == "denied"


def test_denials_are_kept_however_many_there_are() -> None:
    """Whoever was denied has the decision id, and asks for it."""
    recent = RecentDecisions(lambda: 10.0)
    fill(recent, DENY, MAX_REFUSED)
    fill(recent, SHADOW, 1)
    assert len(kept(recent)) == MAX_REFUSED
    assert "policy_denied-0" in kept(recent)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (DecisionFilter(reason="token_expired"), ["1"]),
        (DecisionFilter(outcome="allow"), ["3", "0"]),
        (DecisionFilter(outcome="would_deny"), ["2"]),
        (DecisionFilter(rule="admin"), ["2"]),
        (DecisionFilter(issuer="b"), ["3"]),
        (DecisionFilter(subject="carol"), ["3"]),
        (DecisionFilter(client="192.0.2.7"), ["1"]),
        (DecisionFilter(decision_id="2"), ["2"]),
        (DecisionFilter(reason="token_expired", decision_id="2"), []),
        (DecisionFilter(after=2.0), ["3", "2"]),
        (DecisionFilter(before=2.0), ["0"]),
        (DecisionFilter(limit=2), ["3", "2"]),
    ],
)
def test_what_is_asked_for_is_found(wanted: DecisionFilter, found: list[str]) -> None:
    """By reason, outcome, rule, issuer, subject, client, decision id and time, each exactly; all must hold."""
    recent = ring()
    keep = recent.recorder(name_client=True)
    keep(CheckRecord(Allow(reason=Reason.PUBLIC, trail=AuditTrail(rule="open")), "0", ask(), 0.0))
    keep(CheckRecord(DENY, "1", ask(source_address="192.0.2.7"), 0.0))
    keep(CheckRecord(replace(SHADOW, trail=AuditTrail(rule="admin", issuer="a", subject="bob")), "2", ask(), 0.0))
    keep(CheckRecord(replace(ALLOW, trail=AuditTrail(issuer="b", subject="carol")), "3", ask(), 0.0))
    assert kept(recent, wanted) == found


def test_a_subject_is_found_as_it_is_shown() -> None:
    """A link on a page has what the page shows; a command may have what the token has."""
    recent = ring()
    trail = AuditTrail(subject="b\u00f6b")
    recent.recorder(name_client=True)(CheckRecord(replace(ALLOW, trail=trail), "1", ask(), 0.0))
    assert kept(recent, DecisionFilter(subject="b\\xf6b")) == kept(recent, DecisionFilter(subject="b\u00f6b")) == ["1"]


def records() -> list[CheckRecord]:
    """Decisions about all that an attacker sends."""
    requests = list(hostile.requests())
    return [
        CheckRecord(authorize(request, DEFAULT_SNAPSHOT, T), f"{number:x}", request, 0.001)
        for number, request in enumerate(requests)
    ]


def test_it_shows_what_the_decision_log_shows() -> None:
    """One field for one field: what is truncated more has that beginning. No token is in it, and no claim but sub."""
    recent = ring()
    for record in records():
        recent.recorder(name_client=True)(record)
        with logging_to() as stream:
            DecisionLog(Metrics(insecure_options=0, label_rules=True), monotonic=lambda: 0.0).write(
                record, log_client=True
            )
        (line,) = parsed(stream)
        shown = recent.describe(DecisionFilter(decision_id=record.decision_id))["decisions"]
        assert isinstance(shown, list)
        fields = {name: value for name, value in shown[0].items() if name != "at"}
        assert fields.keys() == line.keys() - {"time", "level", "logger", "message"}
        for name, value in fields.items():
            same = value == line[name]
            assert same or str(line[name]).startswith(value.removesuffix("...")), name
            assert same or len(value) >= 64, name


def test_who_must_not_be_named_is_not_kept() -> None:
    """With log_client: false there is neither client nor subject, not even in memory."""
    recent = ring()
    request = ask(mint(), source_address="192.0.2.7")
    long = replace(request, path="/items/" + "x" * 1000)
    for each in (request, long):
        recent.recorder(name_client=False)(CheckRecord(decide(mint()), "id", each, 0.0))
    for entry in recent.find(ALL):
        assert (entry.client, entry.subject) == (None, None)
        assert not {"client", "subject"} & entry.fields().keys()


def test_the_key_of_a_sender_is_kept_with_the_sender() -> None:
    """The thumbprint that a proof was made by is shown if they are named; a request of great length leaves it out."""
    bound = replace(ALLOW, trail=AuditTrail(subject="alice", thumbprint="0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"))
    for name_client in (True, False):
        for path, cut in (("/items/1", False), ("/" + "x" * 1000, True)):
            recent = ring()
            recent.recorder(name_client=name_client)(CheckRecord(bound, "id", ask(mint(), path=path), 0.001))
            [entry] = recent.find(DecisionFilter())
            assert (entry.subject is not None) is name_client
            assert ("thumbprint" in entry.fields()) is (name_client and not cut)


def test_no_token_in_a_query_is_kept() -> None:
    """The path ends at the question mark, in memory too."""
    recent = ring()
    for path in ("/items/1?access_token=secret", f"/items/1?{'x' * 1000}secret"):
        recent.recorder(name_client=True)(CheckRecord(DENY, "id", ask(path=path), 0.0))
    assert [entry.path for entry in recent.find(ALL)] == ["/items/1", "/items/1"]


def size_of(entry: AuditEntry) -> int:
    """The octets of an entry and of the texts that it alone has."""
    return sys.getsizeof(entry) + sum(
        sys.getsizeof(value) for value in (*entry, *entry.audience) if not isinstance(value, Reason)
    )


def test_it_fits_its_memory_whatever_is_sent() -> None:
    """All places taken by the longest texts: below 2 MB, with room for the counts of the last hour."""
    widest = "\U0001f600" * 5000
    odd = ask(widest, path=widest, host=widest, method=widest, source_address=widest, headers={"x-request-id": widest})
    trail = AuditTrail(
        alg=widest, kid=widest, claimed_issuer=widest, subject=widest, audience=[widest] * 50, thumbprint="t" * 43
    )
    largest = max(
        size_of(entry)
        for number in (*range(0, 300, 7), 5000)
        for reason, learned in (
            (
                Reason.ISSUER_UNKNOWN,
                replace(trail, subject=None),
            ),  # of a token that is not verified there is no subject
            (Reason.POLICY_DENIED, trail),
        )
        for entry in entries_of(odd, learned, reason, number)
    )
    assert largest * (MAX_REFUSED + MAX_ALLOWED) < BUDGET * 0.92


def entries_of(odd: Request, trail: AuditTrail, reason: Reason, chars: int) -> list[AuditEntry]:
    """Keep one decision whose texts have so many characters."""

    def cut(text: str | None) -> str:
        return (text or "")[:chars]

    recent = ring()
    request = replace(
        odd,
        path=cut(odd.path),
        host=cut(odd.host),
        method=cut(odd.method),
        source_address=cut(odd.source_address),
        headers={"x-request-id": cut(odd.headers["x-request-id"])},
    )
    short = replace(
        trail,
        alg=cut(trail.alg),
        kid=cut(trail.kid),
        claimed_issuer=cut(trail.claimed_issuer),
        subject=cut(trail.subject),
    )
    recent.recorder(name_client=True)(CheckRecord(Deny(reason, short, "why " * 300), "0" * 16, request, 0.001))
    return recent.find(ALL)


def test_threads_that_keep_at_once_lose_nothing() -> None:
    """No lock is taken: each decision has a place of its own all the same."""
    recent = ring()
    threads = [Thread(target=fill, args=(recent, Deny(reason), 90)) for reason in list(Reason)[3:11]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(kept(recent))) == 8 * 90


def test_a_report_keeps_the_decision() -> None:
    """Each decision is kept, whether or not it is logged; without a ring there is none."""
    metrics = Metrics(insecure_options=0, label_rules=True)
    log = DecisionLog(metrics, monotonic=lambda: 0.0)
    recent, quiet = ring(), Reporting(decisions="none", log_client=False)
    reporter(metrics, log, quiet, recent=recent)(CheckRecord(DENY, "kept", ask(), 0.0))
    reporter(metrics, log, quiet)(CheckRecord(DENY, "lost", ask(), 0.0))
    assert kept(recent) == ["kept"]


def test_a_ring_that_breaks_ends_no_report() -> None:
    """It is counted, and the decision still is."""

    def broken() -> float:
        raise OSError

    metrics = Metrics(insecure_options=0, label_rules=True)
    log = DecisionLog(metrics, monotonic=lambda: 0.0)
    with logging_to():
        reporter(metrics, log, Reporting(decisions="none", log_client=False), recent=RecentDecisions(broken))(
            CheckRecord(DENY, "id", ask(), 0.0)
        )
    value = metrics.registry.get_sample_value
    labels = {"decision": "deny", "reason": "token_expired", "issuer": "", "rule": ""}
    assert value("authz_reports_failed_total", {"part": "console"}) == 1
    assert value("authz_decisions_total", labels) == 1
