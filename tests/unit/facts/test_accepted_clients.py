"""Proves authz.facts.accepted_clients: who was accepted stays known, in bounded memory, whatever others do."""

from __future__ import annotations

from authz.core.throttle import digest_subject, digest_token
from authz.core.token import ValidToken
from authz.facts.accepted_clients import GENERATION, MAX_OF_SUBJECT, AcceptedClients
from tests.fakes.clock import FakeClock

OFFICE, HOME = "192.0.2.1", "2001:db8::/64"


def shown(subject: str, number: int = 0, **members: object) -> ValidToken:
    """Return one of the tokens of *subject*."""
    return ValidToken(f"token {number} of {subject}", {"iss": "https://a.test", "sub": subject, **members})


def knows_token(accepted: AcceptedClients, token: ValidToken) -> bool:
    """Return whether a token is known."""
    return accepted.knows(digest_token(token.text))


def knows_subject(accepted: AcceptedClients, token: ValidToken, network: str) -> bool:
    """Return whether the subject of a token is known in *network*."""
    digest = digest_subject(token.members, network)
    return digest is not None and accepted.knows(digest)


def make(clock: FakeClock, max_entries: int = 1000) -> AcceptedClients:
    """Make a memory that uses *clock*."""
    return AcceptedClients(max_entries=max_entries, monotonic=clock.monotonic)


def test_a_token_is_known_everywhere_and_its_subject_where_it_was_shown() -> None:
    """Nobody can guess a token; a subject can be guessed, so it counts in its own network only."""
    accepted = make(FakeClock())
    accepted.record(shown("bob"), OFFICE)
    assert knows_token(accepted, shown("bob"))
    assert not knows_token(accepted, shown("bob", 2))
    assert knows_subject(accepted, shown("bob", 2), OFFICE)
    assert not knows_subject(accepted, shown("bob", 2), HOME)
    assert not knows_subject(accepted, shown("eve"), OFFICE)
    accepted.record(shown("bob"), HOME)
    assert knows_subject(accepted, shown("bob", 2), HOME)


def test_a_session_and_a_key_are_part_of_the_subject() -> None:
    """Another client cannot guess them, so its token with the same subject is not taken for the subject's."""
    accepted = make(FakeClock())
    accepted.record(shown("bob", sid="s1", cnf={"jkt": "k", "x": 1}), OFFICE)
    assert knows_subject(accepted, shown("bob", 2, sid="s1", cnf={"x": 1, "jkt": "k"}), OFFICE)
    for other in ({}, {"sid": "s2", "cnf": {"jkt": "k"}}, {"sid": "s1"}, {"sid": "s1", "cnf": {"jkt": "other"}}):
        assert not knows_subject(accepted, shown("bob", 2, **other), OFFICE)


def test_a_token_without_a_subject_is_known_alone() -> None:
    """A token that names neither subject nor client makes no other one known."""
    accepted = make(FakeClock())
    accepted.record(ValidToken("t", {"iss": "https://a.test"}), OFFICE)
    assert accepted.knows(digest_token("t"))
    assert digest_subject({"iss": "https://a.test"}, OFFICE) is None
    assert len(accepted) == 1


def test_who_calls_stays_known_and_who_left_is_forgotten() -> None:
    """An entry that is in use lasts; one that is not is forgotten after two generations."""
    clock = FakeClock()
    accepted = make(clock)
    accepted.record(shown("gone"), OFFICE)
    for _ in range(30):
        accepted.record(shown("bob"), OFFICE)
        clock.advance(GENERATION / 10)
    assert knows_token(accepted, shown("bob"))
    assert knows_subject(accepted, shown("bob"), OFFICE)
    assert not knows_token(accepted, shown("gone"))


def test_the_tokens_of_one_subject_cannot_replace_all_others() -> None:
    """A client with any number of good tokens, from any number of networks, keeps a share of the memory."""
    accepted = make(FakeClock(), max_entries=200)
    accepted.record(shown("bob"), OFFICE)
    for number in range(10_000):
        accepted.record(shown("eve", number, sid=f"{number}"), f"192.0.2.{number % 250}")
    assert len(accepted) == 2 + MAX_OF_SUBJECT
    assert knows_token(accepted, shown("bob"))


def test_memory_is_bounded_whatever_comes() -> None:
    """Any number of subjects takes no more than two generations, and those who call meanwhile stay known."""
    accepted = make(FakeClock(), max_entries=100)
    for number in range(5_000):
        accepted.record(shown(f"subject {number}"), OFFICE)
        accepted.record(shown("bob"), OFFICE)
        assert len(accepted) <= 202
        assert knows_token(accepted, shown("bob"))
