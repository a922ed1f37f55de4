"""Proves the sources of revocations: lists that replace each other, events that stay, and files that several share."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry

from authz.config.model import Config
from authz.core.reasons import Reason
from authz.core.revocation import RevocationEntry, RevokedBy
from authz.feeds.ports import FeedEnv
from authz.feeds.revocation_events import EVICTION_INTERVAL, FILE_POLL_INTERVAL, FullError
from authz.feeds.revocations import OPERATOR, Revocations
from authz.feeds.snapshot_store import SnapshotStore
from authz.telemetry.revocations import RevocationMetrics
from tests.fakes.clock import FakeClock
from tests.fixtures import DEFAULT_SNAPSHOT, A, T, decide, make_snapshot, mint
from tests.unit.config.sample import configure

EVE: Final = RevocationEntry(RevokedBy.SUBJECT, A, "eve")
SESSION: Final = RevocationEntry(RevokedBy.SESSION, A, "s1")
TOKEN: Final = mint(sid="s1", sub="eve", jti="one", exp=T + 10**6)


class Pod:
    """One process with its sources; its threads run when they are started, and time goes by when it is told to."""

    def __init__(self, config: Config, *, shared: Path | None = None) -> None:
        self.clock = FakeClock(wall=float(T))
        self.store = SnapshotStore(DEFAULT_SNAPSHOT)
        self.registry = CollectorRegistry()
        env = FeedEnv(monotonic=self.clock.monotonic, now=self.clock.time, jitter=lambda: 0.5, spawn=lambda run: run())
        metrics = RevocationMetrics(self.registry)
        self.revocations = Revocations(config, store=self.store, env=env, metrics=metrics, shared=shared)
        self.revocations.reconfigure(config)

    def step(self, seconds: float = 0.0) -> None:
        """Let time go by, and do what is due."""
        self.clock.advance(seconds)
        for feed in self.revocations.feeds_to_step():
            if feed.due() <= self.clock.monotonic():
                feed.step()

    def revoke(self, *entries: RevocationEntry) -> int:
        return self.revocations.events.revoke(entries, OPERATOR)

    def reason(self, token: str = TOKEN) -> Reason:
        """What becomes of a token, which is of eve's session s1."""
        return decide(token, snapshot=self.store.current()).reason

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def settings(**section: object) -> Config:
    """Load a configuration with this section `revocation`."""
    return configure(more=f"revocation: {json.dumps(section)}\n")


def write(file: Path, *entries: Mapping[str, object]) -> None:
    """Write a list in place of the last one."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"revoked": entries}), encoding="utf-8")
    new.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A list that revokes eve."""
    path = tmp_path / "revoked.json"
    write(path, {"iss": A, "sub": "eve"})
    return path


# Lists.


def listed(file: Path, **section: object) -> Config:
    """Configure one list in *file*."""
    return settings(lists={"ours": {"file": str(file), **section}})


def test_a_list_is_followed(file: Path) -> None:
    """What is listed is revoked, until it is taken out; a list that is broken changes nothing."""
    pod = Pod(listed(file))
    assert (pod.reason(), pod.revocations.waiting_for()) == (Reason.REVOCATIONS_UNAVAILABLE, ["ours"])
    pod.step()
    assert (pod.reason(), pod.revocations.waiting_for()) == (Reason.TOKEN_REVOKED, [])
    assert pod.metric("authz_revocations", source="ours") == 1
    file.write_text('{"revoked": [', encoding="utf-8")
    pod.step(2)
    assert pod.reason() is Reason.TOKEN_REVOKED
    assert pod.metric("authz_revocation_refresh_total", source="ours", result="list_rejected") == 1
    write(file)
    pod.step(5)
    assert pod.reason() is Reason.AUTHENTICATED
    assert pod.metric("authz_revocation_last_success_timestamp_seconds", source="ours") == T + 7


def test_a_typo_in_one_entry_is_reported_and_the_others_count(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log names the entry, and a metric counts it."""
    write(file, {"iss": A, "sub": "eve"}, {"iss": A, "subj": "mallory"})
    pod = Pod(listed(file))
    pod.step()
    assert pod.reason() is Reason.TOKEN_REVOKED
    assert 'revocations of ours: 1 entries cannot be read: entry 2: "subj" is not a member of an entry' in caplog.text
    assert pod.metric("authz_revocation_rejected_entries", source="ours") == 1
    (described,) = _sources(pod)
    assert (described["entries"], described["rejected"], described["where"]) == (1, 1, str(file))


@pytest.mark.parametrize(("required", "then"), [(True, Reason.REVOCATIONS_UNAVAILABLE), (False, Reason.AUTHENTICATED)])
def test_a_list_that_is_too_old(file: Path, required: bool, then: Reason) -> None:  # noqa: FBT001 - a row
    """It still revokes what it did; whether other tokens pass is what `required` says. A new list ends that."""
    pod = Pod(listed(file, required=required, max_stale="1m"))
    pod.step()
    file.unlink()
    other = mint(exp=T + 10**6)
    for _ in range(14):
        pod.step(5)
    assert pod.reason() is Reason.TOKEN_REVOKED
    assert pod.reason(other) is then
    write(file, {"iss": A, "sub": "eve"})
    pod.step(5)
    assert pod.reason(other) is Reason.AUTHENTICATED


def test_a_list_that_need_not_be_there(tmp_path: Path) -> None:
    """Readiness does not wait for it, and no request is denied for its absence."""
    pod = Pod(listed(tmp_path / "none.json", required=False))
    pod.step()
    assert (pod.reason(), pod.revocations.waiting_for()) == (Reason.AUTHENTICATED, [])
    assert pod.metric("authz_revocation_refresh_total", source="ours", result="unreachable") == 1


def test_a_reload_forgets_no_list(file: Path, tmp_path: Path) -> None:
    """Not if the list is the same, and not if it is at another place that cannot be read yet; a removed one is gone."""
    pod = Pod(listed(file))
    pod.step()
    (feed, _) = pod.revocations.feeds_to_step()
    pod.revocations.reconfigure(listed(file))
    assert pod.revocations.feeds_to_step()[0] is feed
    pod.revocations.reconfigure(listed(tmp_path / "moved.json"))
    assert pod.reason() is Reason.TOKEN_REVOKED
    pod.step(1)
    assert pod.reason() is Reason.TOKEN_REVOKED
    pod.store.adopt(make_snapshot(), kept=(), keys={})
    assert pod.reason() is Reason.TOKEN_REVOKED
    pod.revocations.reconfigure(settings())
    assert pod.reason() is Reason.AUTHENTICATED
    assert pod.store.current().revocations == ()


# Events.


def test_the_first_event_makes_the_source() -> None:
    """Until then a check costs nothing; an event counts at once, and again says nothing new."""
    pod = Pod(settings())
    assert pod.store.current().revocations == ()
    assert pod.revoke(SESSION) == 1
    assert pod.reason() is Reason.TOKEN_REVOKED
    assert pod.revoke(SESSION) == 0
    assert pod.metric("authz_revocation_events_total", source=OPERATOR, result="accepted") == 1
    assert pod.metric("authz_revocation_events_total", source=OPERATOR, result="known") == 1
    assert [source["source"] for source in _sources(pod)] == ["events"]


def test_events_end_when_their_tokens_have() -> None:
    """They are kept for max_lifetime, with the tolerance of the issuer's clock, and for an hour more at most."""
    pod = Pod(settings(max_lifetime="1h"))
    pod.revoke(SESSION)
    pod.step(3629)
    assert pod.reason() is Reason.TOKEN_REVOKED
    pod.step(3600 + EVICTION_INTERVAL)
    pod.step(EVICTION_INTERVAL)
    assert pod.reason() is Reason.AUTHENTICATED
    assert pod.metric("authz_revocations", source="events") == 0


def test_a_flood_is_refused_and_evicts_nothing() -> None:
    """Beyond the bound the sender is told; those that were accepted still count, and so do later ones for them."""
    pod = Pod(settings(max_entries=2))
    pod.revoke(SESSION)
    flood = [RevocationEntry(RevokedBy.TOKEN, A, f"no {number}") for number in range(100)]
    with pytest.raises(FullError, match="no room: there are 2 revocations already"):
        pod.revoke(*flood)
    assert pod.reason() is Reason.TOKEN_REVOKED
    assert pod.metric("authz_revocation_events_total", source=OPERATOR, result="full") == 99
    assert pod.revoke(SESSION) == 0
    pod.revocations.reconfigure(settings(max_entries=3))
    assert pod.revoke(EVE) == 1


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """What was accepted is in the file; what is over is not read again."""
    config = settings(file=str(tmp_path / "events"), max_lifetime="1h")
    Pod(config).revoke(SESSION, RevocationEntry(RevokedBy.TOKEN, A, "old", until=float(T) - 1))
    again = Pod(config)
    assert again.reason() is Reason.TOKEN_REVOKED
    assert len(again.revocations.events.entries) == 1


def test_one_event_reaches_every_process(tmp_path: Path) -> None:
    """Both share a file: the other one reads it when it is told to, and on its own within a second."""
    config = settings()
    one, two, three = (Pod(config, shared=tmp_path / "events") for _ in range(3))
    one.revoke(SESSION)
    two.revocations.events.catch_up()
    three.step(FILE_POLL_INTERVAL)
    assert [pod.reason() for pod in (one, two, three)] == [Reason.TOKEN_REVOKED] * 3
    two.revoke(EVE)
    one.step(FILE_POLL_INTERVAL)
    assert one.metric("authz_revocations", source="events") == 2


def test_a_damaged_file_costs_only_what_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each line that cannot be read is said, up to a bound, and the others count."""
    file = tmp_path / "events"
    config = settings(file=str(file))
    Pod(config).revoke(SESSION)
    with file.open("ab") as appended:
        appended.write(b'{"source": "operator", "en\n' * 20 + b"[]\n")
    again = Pod(config)
    assert again.reason() is Reason.TOKEN_REVOKED
    assert caplog.text.count(f"a line of {file} is ignored") == 8
    again.revoke(EVE)
    assert Pod(config).revocations.count()["events"] == 2


def test_a_file_that_cannot_be_written_is_found_at_the_start(tmp_path: Path) -> None:
    """Not at the first event, of which no one would know after the restart."""
    with pytest.raises(OSError, match="No such file"):
        Pod(settings(file=str(tmp_path / "none" / "events")))


def test_an_event_that_cannot_be_saved_counts_and_is_reported(tmp_path: Path) -> None:
    """The sender is told; what could not be written is written with the next one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    config = settings(file=str(folder / "events"))
    pod = Pod(config)
    gone = tmp_path / "gone"
    folder.rename(gone)
    with pytest.raises(OSError, match="No such file"):
        pod.revoke(SESSION)
    assert pod.reason() is Reason.TOKEN_REVOKED
    assert pod.metric("authz_revocation_events_total", source=OPERATOR, result="unsaved") == 1
    pod.revocations.events.catch_up()  # in vain, and says so
    gone.rename(folder)
    pod.revoke(EVE)
    assert Pod(config).revocations.count()["events"] == 2


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    """What is over is left out of it, and others that share it go on."""
    file = tmp_path / "events"
    config = settings(file=str(file), max_lifetime="1h")
    one, two = Pod(config), Pod(config)
    one.revoke(*[RevocationEntry(RevokedBy.TOKEN, A, f"no {number}") for number in range(1500)])
    two.step(1)
    size = file.stat().st_size
    one.clock.advance(7200)
    one.revoke(SESSION)
    one.step()
    assert file.stat().st_size < size / 100
    two.step(7200)
    assert two.reason() is Reason.TOKEN_REVOKED
    two.revoke(EVE)
    assert Pod(config).revocations.count()["events"] == 2


def test_a_system_without_threads_is_asked_again(tmp_path: Path) -> None:
    """A look that could not start does not stop the looks after it."""
    pod = Pod(settings(file=str(tmp_path / "events")))
    refused: list[Callable[[], None]] = []

    def refuse(run: Callable[[], None]) -> None:
        refused.append(run)
        raise RuntimeError("can't start new thread")

    object.__setattr__(pod.revocations.events._env, "spawn", refuse)
    for _ in range(2):
        with suppress(RuntimeError):
            pod.step(FILE_POLL_INTERVAL)
    assert len(refused) == 2


def _sources(pod: Pod) -> list[dict[str, Any]]:
    found = pod.revocations.describe()["sources"]
    assert isinstance(found, list)
    return found
