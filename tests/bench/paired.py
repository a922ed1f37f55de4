"""Measure checks in pairs, without Envoy and gRPC: what one costs more than another, to a tenth of a microsecond.

`python -m tests.bench.paired` decides the same number of checks of each kind in turn, on one thread, again and again,
and prints the CPU time of each, and the middle of the differences and ratios of the pairs. What gRPC adds to each check
is not in them: see `make bench`.

Each check is timed by itself. On a machine that others use, their work slows down most checks, by what it takes of the
caches: the time that a twentieth of the checks is below is that of checks that nothing disturbed.
"""

# ruff: noqa: T201 - a program that prints
from __future__ import annotations

import gc
import json
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, cycle, pairwise
from pathlib import Path
from queue import SimpleQueue
from statistics import mean, median
from typing import Final

from authz.config.build import build_snapshot
from authz.config.load import parse
from authz.config.model import TransportName
from authz.demo.signing import SigningKey
from authz.envoy import ext_authz_pb2 as wire
from authz.envoy.checker import Checker
from authz.envoy.gathering import Gatherer
from authz.envoy.transport.choice import choose_transport
from authz.facts.loop import Loop
from authz.feeds.key_usage import KeyUsage
from authz.feeds.scheduler import Scheduler
from authz.feeds.signature_cache import SignatureCache
from authz.feeds.snapshot_store import SnapshotStore
from authz.feeds.token_cache import TokenCache
from authz.runtime.lanes import ProcessLanes
from authz.runtime.parts import make_feeds, make_gatherer
from authz.signing.keyring import Keyring, KeyringView
from authz.telemetry.check_record import CheckRecord
from authz.telemetry.decisions import DecisionLog
from authz.telemetry.facts import FactMetrics
from authz.telemetry.metrics import Metrics
from authz.telemetry.recent import RecentDecisions
from authz.telemetry.report import Reporting, reporter
from tests.bench.deployments import Deployments, answering
from tests.bench.setups import Setup
from tests.bench.tokens import mint, prove, write_claims, write_opaque

ROUNDS: Final = 30
CHECKS: Final = 400  # of each kind in a round
HANG_SECONDS: Final = 300.0

Report = Callable[[CheckRecord], None]
Times = Mapping[str, Sequence[Sequence[float]]]
"""The microseconds of CPU time of each check, in each round, by kind."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is measured beside what, by their names, and how many microseconds more it may take."""

    name: str
    beside: str
    at_most: float


PAIRS: Final = (
    Pair("opaque token, answer cached", "RS256, seen before", 8.0),
    Pair("ES256, seen before, new proof", "ES256, new", 95.0),  # 0.6 of what ES256-new takes in all, gRPC included
    Pair("RS256, seen before, token kept", "RS256, seen before", 10.0),
    # 0.3 of what RS256-new takes in all, gRPC included.
    Pair("RS256, new, ES256 token signed", "RS256, new", 63.0),
    Pair("RS256, new, EdDSA token signed", "RS256, new", 63.0),
    Pair("kept for the console", "not kept for the console", 0.8),  # 1 % of what base takes in all
)


class Sidecar:
    """A sidecar without its servers, on the configuration *text*: its feeds and lanes, and checkers that share them."""

    def __init__(self, text: str) -> None:
        config = parse(text, file="authz.yaml")
        self.metrics: Final = Metrics(insecure_options=0, label_rules=True)
        usage, signatures, tokens = KeyUsage(time.time), SignatureCache(), TokenCache()
        snapshot = build_snapshot(
            config,
            parse_token=tokens.parse,
            verify_signature=usage.record_use(tokens.keep_verified(signatures.verify)),
            nonce_secret=secrets.token_bytes(32),
        )
        self.store: Final = SnapshotStore(snapshot)
        self._scheduler: Final = Scheduler(monotonic=time.monotonic)
        feeds = make_feeds(
            store=self.store,
            scheduler=self._scheduler,
            usage=usage,
            metrics=self.metrics,
            evict=signatures.evict_removed_keys,
            on_refresh=lambda _issuer, _result, _seconds: None,
        )
        transport = choose_transport(TransportName.AUTO)
        loop = Loop(time.monotonic)
        self._lanes: Final = ProcessLanes(config, transport, FactMetrics(self.metrics.registry), shared=None, loop=loop)
        self._keyring: Final = Keyring(self._show_signing, now=time.time, monotonic=time.monotonic)
        self._gatherer: Final[Gatherer] = make_gatherer(feeds, self._lanes, loop)
        self._lanes.reconfigure(config, snapshot)
        self._keyring.reconfigure(config)
        feeds.apply(config, self.store.current())
        self._scheduler.start(feeds.feeds_to_step)
        self._gatherer.start()
        deadline = time.monotonic() + HANG_SECONDS
        while feeds.waiting_for() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _show_signing(self, view: KeyringView) -> None:
        self._lanes.tokens.add(view)
        self.store.set_signing(view.key, view.published)
        self._lanes.tokens.use(view)

    def checker(self, report: Report) -> Checker:
        """Return what answers checks, and reports them so."""
        return Checker(
            snapshot=self.store.current,
            gatherer=self._gatherer,
            report=report,
            now=time.time,
            elapsed=time.monotonic,
            new_id=partial(secrets.token_hex, 8),
        )

    def stop(self) -> None:
        """Stop all threads."""
        self._scheduler.stop()
        self._gatherer.stop()
        self._lanes.close()
        self._keyring.stop()


def write_check(headers: Mapping[str, str]) -> bytes:
    """Write the CheckRequest of a request like those of `make bench`, with these *headers* too."""
    request = wire.CheckRequest()
    http = request.attributes.request.http
    http.id, http.method, http.host, http.path = "7", "GET", "bench.test", "/orders/5"
    http.scheme, http.protocol, http.size = "http", "HTTP/1.1", -1
    usual = {":method": "GET", ":path": http.path, ":authority": http.host, ":scheme": "http"}
    for name, value in {**usual, "x-request-id": secrets.token_hex(16), "x-forwarded-proto": "http", **headers}.items():
        http.headers[name] = value
    return request.SerializeToString()


def answer(checker: Checker, message: bytes) -> bytes:
    """Return the response to a check, made on this thread if nothing is to be waited for."""
    given = checker.check(message, received=time.monotonic(), time_left=None)
    if isinstance(given, bytes):
        return given
    answers = SimpleQueue[bytes]()
    given(answers.put)
    return answers.get(timeout=HANG_SECONDS)


@contextmanager
def prepare(folder: Path, count: int = ROUNDS * CHECKS) -> Iterator[dict[str, tuple[Checker, Iterator[bytes]]]]:
    """Start the sidecars, and yield by name who answers which checks. Each was answered before, unless it is new.

    There are *count* of those that are new.
    """
    keys = {name: SigningKey.create(name, kid=name) for name in ("RS256", "ES256")}
    now = int(time.time())
    deployments = Deployments(folder, keys)
    with answering() as asked:
        texts = {
            setup: deployments._write(setup, folder, listen=f"unix:{folder}/s", admin="127.0.0.1:9192", asked=asked)
            for setup in (
                *(Setup(), Setup(opaque=True), Setup(proofs=True)),
                *(Setup(minted="ES256"), Setup(minted="EdDSA")),
            )
        }
        sidecars = [Sidecar(text) for text in texts.values()]
        plain, opaque, proofs, *signing = sidecars
        try:
            bare, kept = (make_report(plain.metrics, recent) for recent in (None, RecentDecisions(time.time)))
            reports = [make_report(each.metrics, RecentDecisions(time.time)) for each in signing]
            client = SigningKey.create("ES256")
            bound = keys["ES256"].sign({**write_claims(0, now), "cnf": {"jkt": client.jwk.thumbprint()}})
            lines = prove("ES256", client.jwk.export(), bound, now, range(count)).splitlines()
            new = {name: mint(name, key.jwk.export(), now, range(count)).splitlines() for name, key in keys.items()}
            same = write_check(
                {"authorization": f"Bearer {mint('RS256', keys['RS256'].jwk.export(), now, range(1))[:-1]}"}
            )
            unread = write_check({"authorization": f"Bearer {write_opaque(now, range(1))[:-1]}"})
            for sidecar, message in ((plain, same), (opaque, unread), (signing[0], same)):
                answer(sidecar.checker(lambda _record: None), message)
            yield {
                "RS256, seen before": (plain.checker(kept), cycle([same])),
                "opaque token, answer cached": (
                    opaque.checker(make_report(opaque.metrics, RecentDecisions(time.time))),
                    cycle([unread]),
                ),
                "ES256, new": (
                    plain.checker(kept),
                    (write_check({"authorization": f"Bearer {token}"}) for token in new["ES256"]),
                ),
                "RS256, new": (
                    plain.checker(kept),
                    (write_check({"authorization": f"Bearer {token}"}) for token in new["RS256"]),
                ),
                "RS256, seen before, token kept": (signing[0].checker(reports[0]), cycle([same])),
                **{
                    f"RS256, new, {name} token signed": (
                        sidecar.checker(report),
                        (write_check({"authorization": f"Bearer {token}"}) for token in new["RS256"]),
                    )
                    for name, sidecar, report in zip(("ES256", "EdDSA"), signing, reports, strict=True)
                },
                "ES256, seen before, new proof": (
                    proofs.checker(make_report(proofs.metrics, RecentDecisions(time.time))),
                    (
                        write_check({"authorization": f"DPoP {token}", "dpop": proof})
                        for token, proof in (line.split(" ") for line in lines)
                    ),
                ),
                "not kept for the console": (plain.checker(bare), cycle([same])),
                "kept for the console": (plain.checker(kept), cycle([same])),
            }
        finally:
            for sidecar in sidecars:
                sidecar.stop()


def make_report(metrics: Metrics, recent: RecentDecisions | None) -> Report:
    """Return what reports decisions as by default."""
    log = DecisionLog(metrics, monotonic=time.monotonic)
    return reporter(metrics, log, Reporting(decisions="denied", log_client=True), recent=recent)


def measure(kinds: Mapping[str, tuple[Checker, Iterator[bytes]]]) -> Times:
    """Return how long each check took."""
    took: dict[str, list[list[float]]] = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, (checker, messages) in kinds.items():
            batch = [next(messages) for _ in range(CHECKS)]
            stamps = [time.thread_time_ns()]
            for message in batch:
                answer(checker, message)
                stamps.append(time.thread_time_ns())
            took[name].append([(after - before) / 1e3 for before, after in pairwise(stamps)])
    return took


def describe(took: Times) -> str:
    """Write the tables."""
    means = {name: [mean(checks) for checks in rounds] for name, rounds in took.items()}
    quiet = {name: _undisturbed(rounds) for name, rounds in took.items()}
    lines = ["| check | CPU us | undisturbed |", "|---|---:|---:|"]
    lines += [f"| {name} | {median(values):.1f} | {quiet[name]:.1f} |" for name, values in means.items()]
    lines += ["", "| pair | more us | ratio | undisturbed | aim, us more |", "|---|---:|---:|---:|---|"]
    for pair in PAIRS:
        both = list(zip(means[pair.name], means[pair.beside], strict=True))
        more, ratio = median(one - other for one, other in both), median(one / other for one, other in both)
        alone = quiet[pair.name] - quiet[pair.beside]
        verdict = "met" if more <= pair.at_most else "met undisturbed" if alone <= pair.at_most else "MISSED"
        figures = f"{more:+.1f} | {ratio:.3f} | {alone:+.1f} | {pair.at_most:g} {verdict}"
        lines.append(f"| {pair.name}, to {pair.beside} | {figures} |")
    return "\n".join(lines)


def _undisturbed(rounds: Sequence[Sequence[float]]) -> float:
    """Return the time that a twentieth of all checks is below."""
    checks = sorted(chain.from_iterable(rounds))
    return checks[len(checks) // 20]


def main() -> int:
    """Measure and print."""
    sys.setswitchinterval(0.0005)  # as `authz serve` does
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, prepare(Path(folder)) as kinds:
        gc.collect()
        gc.freeze()  # as above: otherwise each collection would look through all that was prepared
        took = measure(kinds)
    if sys.argv[1:2] == ["--json"]:
        print(json.dumps(took))
    else:
        print(describe(took))
    return 0


if __name__ == "__main__":
    sys.exit(main())
