"""Proves authz.facts.clients: strangers slow down themselves, and nobody who showed a good token."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.core.authorize import authorize
from authz.core.client_network import NetworkRules
from authz.core.decision import Decision
from authz.core.needs import Need
from authz.core.reasons import Reason
from authz.core.requirements import Requirements, RiskRequirement
from authz.core.risk import CLIENT, ClientHistory
from authz.core.snapshot import Snapshot
from authz.core.throttle import ClientRules, Throttle
from authz.envoy.gathering import Gatherer
from authz.facts.clients import ClientMemory
from authz.facts.failure_counts import FailureCount
from authz.facts.seen_networks import GENERATION, MAX_NETWORKS, SeenNetworks
from tests.cases.introspection import OPAQUE, RULES, said, world
from tests.fakes.clock import FakeClock
from tests.fixtures import A_EC, B_EC, DEFAULT_SNAPSHOT, T, ask, claim, issuer_a, make_snapshot, mint, rule

OFFICE, ATTIC = "192.0.2.1", "2001:db8:1:2::"
LIMIT = Throttle(failures=5, window=60.0)
GOOD, FORGED = mint(), mint(B_EC, header={"kid": "a-ec"})


@dataclass
class Sidecar:
    """Decisions one after the other, each with what the memory has of those before; no thread runs."""

    snapshot: Snapshot = field(default_factory=lambda: guard(DEFAULT_SNAPSHOT))
    clock: FakeClock = field(default_factory=FakeClock)
    max_networks: int = 1000
    max_accepted: int = 1000
    max_subjects: int = 1000

    def __post_init__(self) -> None:
        self.memory = ClientMemory(
            max_networks=self.max_networks,
            max_subjects=self.max_subjects,
            max_accepted=self.max_accepted,
            monotonic=self.clock.monotonic,
        )
        self.memory.reconfigure(self.snapshot.clients)
        self.gatherer = Gatherer(self.memory.lanes(), monotonic=self.clock.monotonic)

    def ask(
        self,
        token: str | None,
        address: str = OFFICE,
        facts: dict[Need, object] | None = None,
        headers: dict[str, str] | None = None,
        path: str = "/items/1",
    ) -> Reason:
        """Decide one request."""
        return self.decide(token, address, facts, headers, path).reason

    def decide(
        self,
        token: str | None,
        address: str = OFFICE,
        facts: dict[Need, object] | None = None,
        headers: dict[str, str] | None = None,
        path: str = "/items/1",
    ) -> Decision:
        """Decide one request, and remember what it says of the client."""
        request = ask(token, source_address=address, headers=headers, path=path)
        decision = authorize(request, self.snapshot, T, self.gatherer.known_with(facts or {}))
        self.memory.record_decision(decision)
        return decision

    def fail(self, times: int, address: str = OFFICE, token: str = FORGED) -> list[Reason]:
        """Send a bad token several times."""
        return [self.ask(token, address) for _ in range(times)]


def guard(snapshot: Snapshot, **changes: object) -> Snapshot:
    """Count failures in *snapshot*."""
    return replace(snapshot, clients=replace(ClientRules(throttle=LIMIT), **changes))  # type: ignore[arg-type]


def test_a_network_is_slowed_down_after_so_many_bad_tokens_and_recovers() -> None:
    """Five bad tokens are answered for what they are; then 429, until a fifth of the minute has passed."""
    sidecar = Sidecar()
    assert sidecar.fail(7) == [Reason.SIGNATURE_INVALID] * 5 + [Reason.THROTTLED] * 2
    sidecar.clock.advance(12.1)
    assert sidecar.fail(2) == [Reason.SIGNATURE_INVALID, Reason.THROTTLED]
    sidecar.clock.advance(61.0)
    assert sidecar.fail(6) == [Reason.SIGNATURE_INVALID] * 5 + [Reason.THROTTLED]


def test_another_network_is_not_slowed_down() -> None:
    """A stranger slows down the own network only."""
    sidecar = Sidecar()
    sidecar.fail(50)
    assert sidecar.ask(GOOD, "192.0.2.2") is Reason.AUTHENTICATED
    assert sidecar.ask(GOOD, OFFICE) is Reason.AUTHENTICATED  # it was accepted meanwhile
    assert sidecar.ask(mint(sub="newcomer"), OFFICE) is Reason.THROTTLED


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    """An attacker that takes a new address for each attempt is slowed down like one that has a single address."""
    sidecar = Sidecar()
    answers = [sidecar.ask(FORGED, f"{ATTIC}{number:x}") for number in range(1, 10)]
    assert answers == [Reason.SIGNATURE_INVALID] * 5 + [Reason.THROTTLED] * 4
    assert sidecar.ask(FORGED, "2001:db8:1:3::1") is Reason.SIGNATURE_INVALID


def test_a_header_of_the_client_moves_it_nowhere() -> None:
    """Another x-forwarded-for in each request changes nothing, whether proxies are trusted or not."""
    for networks in (NetworkRules(), NetworkRules(trusted_proxies=())):
        sidecar = Sidecar(guard(DEFAULT_SNAPSHOT, networks=networks))
        answers = [sidecar.ask(FORGED, headers={"x-forwarded-for": f"198.51.100.{number}"}) for number in range(7)]
        assert answers.count(Reason.THROTTLED) == 2


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (mint(exp=T - 1), Reason.TOKEN_EXPIRED),
        (mint(nbf=T + 100), Reason.TOKEN_NOT_YET_VALID),
        (mint(aud="other"), Reason.AUDIENCE_MISMATCH),
        (mint(exp=None), Reason.CLAIMS_MALFORMED),
        (None, Reason.TOKEN_MISSING),
    ],
)
def test_what_was_not_guessed_does_not_count(token: str | None, reason: Reason) -> None:
    """Clients with a token that was issued, and those without any, are not slowed down however often they ask."""
    sidecar = Sidecar()
    assert {sidecar.ask(token) for _ in range(20)} == {reason}
    assert sidecar.memory.failing_networks() == []


def test_a_bound_token_that_a_rule_asks_for_is_no_bad_token() -> None:
    """A good token that is only not bound to a key was not stolen."""
    sidecar = Sidecar(guard(make_snapshot(rule("r", "/**", bound=True))))
    assert {sidecar.ask(GOOD) for _ in range(20)} == {Reason.TOKEN_BOUND}


def test_guesses_of_opaque_tokens_count() -> None:
    """A token that the issuer calls inactive is a guess; one that it called active passes from then on."""
    snapshot = guard(world())
    sidecar = Sidecar(snapshot)
    active = dict(said())
    assert sidecar.ask(OPAQUE, facts=active) is Reason.AUTHENTICATED
    guess = "guess-of-a-token"
    answers = [sidecar.ask(guess, facts=dict(said(guess, RULES, active=False))) for _ in range(7)]
    assert answers == [Reason.TOKEN_INACTIVE] * 5 + [Reason.THROTTLED] * 2
    assert sidecar.ask(OPAQUE, facts=active) is Reason.AUTHENTICATED


def test_a_denial_without_an_answer_counts_as_nothing() -> None:
    """An issuer that has no keys, or does not answer, makes no client a stranger."""
    sidecar = Sidecar(guard(make_snapshot(a=issuer_a(keys=None))))
    assert {sidecar.ask(GOOD) for _ in range(20)} == {Reason.KEYS_UNAVAILABLE}
    assert sidecar.memory.failing_networks() == []


def test_a_rule_in_shadow_counts_too() -> None:
    """What is only reported was sent nevertheless."""
    sidecar = Sidecar(guard(make_snapshot(rule("r", "/**", shadow=True))))
    assert sidecar.fail(6) == [Reason.SIGNATURE_INVALID] * 5 + [Reason.THROTTLED]


def test_failing_networks_are_shown_the_worst_first() -> None:
    """The console gets counts, and for how long a network is slowed down."""
    sidecar = Sidecar()
    sidecar.fail(2, "192.0.2.8")
    sidecar.fail(5, "192.0.2.9")
    worst, other = sidecar.memory.failing_networks()
    assert (worst.name, worst.minute, worst.hour, round(worst.seconds)) == ("192.0.2.9", 5, 5, 12)
    assert other == FailureCount("192.0.2.8", 2, 2)


def test_without_rules_nothing_is_remembered() -> None:
    """A configuration that counts nothing leaves no trace, and one that counts again finds what was there."""
    sidecar = Sidecar()
    sidecar.fail(5)
    sidecar.memory.reconfigure(None)
    sidecar.snapshot = DEFAULT_SNAPSHOT
    assert sidecar.fail(3) == [Reason.SIGNATURE_INVALID] * 3
    sidecar.snapshot = guard(DEFAULT_SNAPSHOT)
    assert sidecar.ask(FORGED) is Reason.SIGNATURE_INVALID  # nothing says yet what a limit is
    sidecar.memory.reconfigure(sidecar.snapshot.clients)
    assert sidecar.ask(FORGED) is Reason.SIGNATURE_INVALID


STRANGERS = (
    FORGED,
    mint(B_EC, header={"kid": "a-ec"}, sub="bob", sid="s1"),
    mint(A_EC, header={"alg": "RS256"}),
    GOOD[:-6] + "AAAAAA",
    "garbage",
    "x" * 20_000,
    mint(sub="eve", exp=T - 1),
    mint(sub="eve"),
)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("stranger"), st.sampled_from(STRANGERS)),
            st.tuples(st.just("stranger"), st.text(max_size=40)),
            st.tuples(st.just("bob"), st.integers(0, 3)),
            st.tuples(st.just("wait"), st.integers(0, 90)),
        ),
        max_size=60,
    )
)
def test_strangers_never_deny_who_showed_a_good_token(events: list[tuple[str, int | str]]) -> None:
    """Whatever strangers on the same network send, in his name too, bob's tokens pass: those seen, and new ones."""
    sidecar = Sidecar()
    tokens = [mint(sub="bob", sid="s1", iat=T - number) for number in range(4)]
    assert sidecar.ask(tokens[0]) is Reason.AUTHENTICATED
    for kind, what in events:
        if kind == "wait":
            sidecar.clock.advance(float(what))
        elif kind == "bob":
            assert sidecar.ask(tokens[int(what)]) is Reason.AUTHENTICATED
        else:
            sidecar.ask(str(what))


def test_after_a_flood_of_networks_the_worst_is_still_slowed_down() -> None:
    """Distinct networks by the thousand neither evict the worst one nor take more memory than there is."""
    sidecar = Sidecar(max_networks=80)
    sidecar.fail(5)
    for number in range(3000):
        sidecar.ask(FORGED, f"2001:db8:{number // 65536:x}:{number % 65536:x}::1")
    assert sidecar.ask(mint(sub="newcomer")) is Reason.THROTTLED
    assert len(sidecar.memory.failing_networks()) <= 80


def test_the_lanes_answer_at_once() -> None:
    """No check waits for what is in memory or nowhere."""
    sidecar = Sidecar()
    for kind, lane in sidecar.memory.lanes().items():
        answers: list[object] = []
        need = Need(kind, "clients", "192.0.2.1")
        lane.ask(need, answers.append)
        known = ClientHistory() if kind == CLIENT else None
        assert (answers, lane.find(need), lane.recall(need)) == ([None], known, known)
        assert (lane.max_waiting, lane.max_wait(need)) == (0, 0.0)


CAREFUL = guard(
    make_snapshot(
        rule("money", "/items/**", risk=RiskRequirement(known_network=True, step_up=Requirements(acr=("mfa",)))),
        rule("admin", "/admin/**", claims=(claim("groups", "admin"),)),
        rule("strict", "/strict/**", risk=RiskRequirement(max_subject_failures_1m=3)),
    )
)


def test_a_new_network_needs_a_step_up_once() -> None:
    """The first network is known; a second one is new until a stronger login was accepted from it, and then known."""
    sidecar = Sidecar(CAREFUL)
    strong = mint(acr="mfa")
    assert sidecar.ask(GOOD) is Reason.AUTHENTICATED
    for _ in range(3):
        assert sidecar.ask(GOOD, ATTIC) is Reason.STEP_UP_REQUIRED
    assert sidecar.ask(GOOD) is Reason.AUTHENTICATED
    assert sidecar.ask(strong, ATTIC) is Reason.AUTHENTICATED
    assert sidecar.ask(GOOD, ATTIC) is Reason.AUTHENTICATED
    assert sidecar.ask(mint(sub="eve"), ATTIC) is Reason.AUTHENTICATED  # her first


def test_another_rule_makes_no_network_known() -> None:
    """A thief cannot make a network known by requests that nothing of the risk is required of."""
    sidecar = Sidecar(CAREFUL)
    assert sidecar.ask(GOOD) is Reason.AUTHENTICATED
    assert sidecar.ask(GOOD, ATTIC, path="/admin/x") is Reason.AUTHENTICATED
    assert sidecar.ask(GOOD, ATTIC) is Reason.STEP_UP_REQUIRED


def test_the_failures_of_a_subject_count_until_they_are_past() -> None:
    """Four denials are above a limit of three; denials for the risk do not prolong that."""
    sidecar = Sidecar(CAREFUL)
    weak = mint(groups=[])
    for _ in range(4):
        assert sidecar.ask(weak, path="/admin/x") is Reason.POLICY_DENIED
    for _ in range(5):
        assert sidecar.ask(weak, path="/strict/x") is Reason.RISK_DENIED
        sidecar.clock.advance(10.0)
    assert [(each.name, each.hour) for each in sidecar.memory.failing_subjects()] == [("a bob", 4)]
    sidecar.clock.advance(10.0)
    assert sidecar.ask(weak, path="/strict/x") is Reason.AUTHENTICATED


def test_no_stranger_writes_failures_to_another_subject() -> None:
    """Forgeries in the name of a subject are failures of their network alone."""
    sidecar = Sidecar(CAREFUL)
    sidecar.fail(30, ATTIC, mint(B_EC, header={"kid": "a-ec"}, sub="bob"))
    assert sidecar.memory.failing_subjects() == []
    assert sidecar.ask(GOOD, path="/strict/x") is Reason.AUTHENTICATED


def test_networks_of_subjects_are_remembered_in_bounded_memory() -> None:
    """Subjects that call stay known; networks of one subject are bounded, the one used longest ago goes."""
    clock = FakeClock()
    seen = SeenNetworks(max_subjects=10, monotonic=clock.monotonic)
    seen.record("bob", OFFICE)
    for number in range(1000):
        seen.record(f"subject {number}", OFFICE)
        seen.record("bob", OFFICE)
    assert len(seen) <= 22
    assert seen.is_new("bob", ATTIC)
    assert not seen.is_new("bob", OFFICE)
    assert not seen.is_new("subject 1", ATTIC)  # forgotten: nothing is new for it
    for number in range(MAX_NETWORKS):
        seen.record("bob", f"192.0.2.{number + 100}")
    assert seen.is_new("bob", OFFICE)
    assert not seen.is_new("bob", "192.0.2.100")


def test_a_subject_that_does_not_call_is_forgotten() -> None:
    """After two generations nothing is new for a subject that was away; one that called is known as before."""
    clock = FakeClock()
    seen = SeenNetworks(max_subjects=10, monotonic=clock.monotonic)
    seen.record("gone", OFFICE)
    for _ in range(30):
        seen.record("bob", OFFICE)
        clock.advance(GENERATION / 10)
        seen.record("bob", ATTIC)
    assert not seen.is_new("gone", ATTIC)
    assert not seen.is_new("bob", OFFICE)
    assert seen.is_new("bob", "192.0.2.9")
