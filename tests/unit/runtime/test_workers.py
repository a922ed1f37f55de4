"""Proves authz.runtime.workers: what several workers say as one, and that none of them holds up the others."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, UnixStreamServer
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic
from prometheus_client.registry import Collector

from authz.admin.routes import make_routes
from authz.admin.server import AdminServer
from authz.config.address import UnixAddress
from authz.core.decision import Allow, AuditTrail
from authz.core.reasons import Reason
from authz.runtime.worker_sockets import MAX_LIVENESS_BYTES, LivenessProbe, WorkerResponse, request_all
from authz.runtime.workers import Workers, merge
from authz.telemetry.check_record import CheckRecord, TraceContext
from authz.telemetry.keys import KeyMetrics
from authz.telemetry.metrics import Metrics
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.unit.envoy.serving import short_folder

SECONDS = HANG_SECONDS  # of patience with what must answer
generate_openmetrics, _ = choose_encoder("application/openmetrics-text; version=1.0.0")


@contextmanager
def listening(
    path: Path,
    *,
    waiting_for: Callable[[], list[str]] = list,
    registry: CollectorRegistry | None = None,
    keys: Callable[[], Mapping[str, object]] = lambda: {"issuers": []},
    refresh: Callable[[str | None], Mapping[str, object] | None] = lambda _: None,
) -> Iterator[Path]:
    """Serve the admin socket of a worker."""
    admin = AdminServer(
        UnixAddress(str(path)),
        make_routes(waiting_for=waiting_for, registry=registry or CollectorRegistry(), keys=keys, refresh=refresh),
    )
    admin.start()
    try:
        yield path
    finally:
        admin.stop()


@contextmanager
def half_dead(path: Path) -> Iterator[Path]:
    """A worker whose socket takes connections, and who says nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield path


@contextmanager
def saying(path: Path, data: bytes) -> Iterator[Path]:
    """A worker that sends *data*, whatever it is asked, and ends."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(data)

    with UnixStreamServer(str(path), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield path
        server.shutdown()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name."""
    with short_folder() as path:
        yield path


def test_a_worker_that_does_not_answer_is_left_out(folder: Path) -> None:
    """One is gone, one is stuck: the third is heard."""
    with half_dead(folder / "1") as stuck, listening(folder / "2") as well:
        wait_until(
            lambda: (
                request_all([folder / "gone", stuck, well], "/livez", seconds=0.2)
                == {2: WorkerResponse(200, b"alive\n")}
            )
        )


def test_workers_are_ready_when_all_are(folder: Path) -> None:
    """What is missing is named with its worker: that it does not answer, or what it waits for itself."""
    missing = ["keys of a", "keys of b"]
    with ExitStack() as parts:
        first = parts.enter_context(listening(folder / "0"))
        second = parts.enter_context(listening(folder / "1", waiting_for=lambda: missing))
        workers = Workers([first, second, folder / "2"], restarts=[0, 0, 0])
        wait_until(lambda: workers.waiting_for() == ["worker 1 (keys of a, keys of b)", "worker 2"])
        missing.clear()
        parts.enter_context(listening(folder / "2"))
        wait_until(lambda: workers.waiting_for() == [])


def test_keys_are_told_by_issuer_with_their_worker(folder: Path) -> None:
    """The shape is that of one process; each entry names its worker, and who did not answer is named too."""
    said = {"issuers": [{"issuer": "a", "keys": []}, {"issuer": "b", "keys": []}]}
    with listening(folder / "0", keys=lambda: said) as first, listening(folder / "2", keys=lambda: said) as third:
        workers = Workers([first, folder / "1", third], restarts=[0, 0, 0])
        expected = {
            "issuers": [{"issuer": name, "keys": [], "worker": number} for name in ("a", "b") for number in (0, 2)],
            "silent_workers": [1],
        }
        wait_until(lambda: workers.describe_keys() == expected)


def test_keys_that_a_worker_cannot_tell_leave_the_others(folder: Path) -> None:
    """An error in one is its silence."""

    def broken() -> dict[str, object]:
        raise BrokenPipeError

    with listening(folder / "0", keys=broken) as first, listening(folder / "1") as second:
        workers = Workers([first, second], restarts=[0, 0])
        wait_until(lambda: workers.describe_keys() == {"issuers": [], "silent_workers": [0]})


class Taken(Collector):
    """What was collected once."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@pytest.fixture(scope="module")
def scraped() -> Iterator[CollectorRegistry]:
    """What is scraped of two workers with all numbers of a sidecar, and of a third that is gone."""
    with ExitStack() as parts:
        folder = parts.enter_context(short_folder())
        sockets = [folder / str(number) for number in range(3)]
        for number, path in enumerate(sockets[:2]):
            metrics = Metrics(insecure_options=number, label_rules=True)
            allowed = Allow(reason=Reason.AUTHENTICATED, trail=AuditTrail(rule=f'ru"le\n{number}', issuer="a"))
            for _ in range(7):
                metrics.count(CheckRecord(allowed, "id", None, 0.001), TraceContext("t1", "s1"))
            KeyMetrics(metrics.registry).for_issuer("a").show_success(1e9 + number)
            parts.enter_context(listening(path, registry=metrics.registry))
        workers, families = Workers(sockets, restarts=[0, 3, 1]), list[Metric]()

        def all_answer() -> bool:
            families[:] = workers.collect()
            return [sample.value for sample in families[0].samples] == [1, 1, 0]

        wait_until(all_answer)
        merged = CollectorRegistry()
        merged.register(Taken(families))
        yield merged


@pytest.mark.parametrize(
    ("generate", "parse"), [(generate_latest, parse_classic), (generate_openmetrics, parse_openmetrics)]
)
def test_every_number_keeps_its_worker(
    scraped: CollectorRegistry, generate: Callable[..., bytes], parse: Callable[[str], Iterable[Metric]]
) -> None:
    """In both forms: each family once, each sample of it with the label, and once only."""
    text = generate(scraped).decode()
    families = list(parse(text))
    assert len({family.name for family in families}) == len(families) == text.count("# TYPE ")
    samples = [(sample.name, tuple(sorted(sample.labels.items()))) for family in families for sample in family.samples]
    assert len(set(samples)) == len(samples)
    assert {dict(labels)["worker"] for _, labels in samples} == {"0", "1", "2"}
    plain = generate(Metrics(insecure_options=0, label_rules=True).registry).decode()
    assert {family.name for family in parse(plain)} < {family.name for family in families}


def test_numbers_are_not_changed_on_their_way(scraped: CollectorRegistry) -> None:
    """Values, labels with odd characters, and exemplars come through; a worker that is gone shows as such."""
    value = scraped.get_sample_value
    assert [value("authz_worker_up", {"worker": number}) for number in "012"] == [1, 1, 0]
    assert [value("authz_worker_restarts_total", {"worker": number}) for number in "012"] == [0, 3, 1]
    assert [value("authz_insecure_options", {"worker": number}) for number in "012"] == [0, 1, None]
    assert value("authz_keys_last_success_timestamp_seconds", {"issuer": "a", "worker": "1"}) == 1e9 + 1
    labels = {"decision": "allow", "reason": "authenticated", "issuer": "a", "rule": 'ru"le\n1', "worker": "1"}
    assert value("authz_decisions_total", labels) == 7
    assert b'# {span_id="s1",trace_id="t1"}' in generate_openmetrics(scraped)


class Merged(Collector):
    """What is merged of some texts."""

    def __init__(self, *texts: bytes) -> None:
        self._texts = {number: text.decode() for number, text in enumerate(texts)}

    def collect(self) -> Iterable[Metric]:
        return merge(self._texts)


def test_merging_one_loses_nothing() -> None:
    """Less its label, what is merged of one worker is what that worker said."""
    said, merged = CollectorRegistry(), CollectorRegistry()
    Counter("seen", "What was\nseen.", ["by"], registry=said).labels("b").inc(3, {"trace_id": "t"})
    Gauge("level", "", registry=said).set(float("nan"))
    merged.register(Merged(generate_openmetrics(said)))
    text = generate_latest(merged)
    assert text.count(b'worker="0"') == 3
    assert text.replace(b',worker="0"', b"").replace(b'{worker="0"}', b"") == generate_latest(said)


def test_a_family_that_one_worker_alone_has_is_there() -> None:
    """While they reload one after the other, workers may know different families."""
    first, second, merged = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    Gauge("old", "", registry=first).set(1)
    Gauge("new", "", registry=second).set(2)
    merged.register(Merged(generate_openmetrics(first), generate_openmetrics(second)))
    assert merged.get_sample_value("old", {"worker": "0"}) == 1
    assert merged.get_sample_value("new", {"worker": "1"}) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.0 200 OK\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\nready\n",
        b"HTTP/1.0 200 OK\r\n\r\nready\n",
        b"\xff\xfe",
    ],
)
def test_half_an_answer_is_none(folder: Path, data: bytes) -> None:
    """A worker that ends while it speaks has said nothing."""
    with saying(folder / "0", data) as path:
        assert request_all([path], "/readyz", seconds=SECONDS) == {}


def test_a_whole_answer_is_taken(folder: Path) -> None:
    """The same in whole: the test above fails for what it says."""
    with saying(folder / "0", b"HTTP/1.0 503 X\r\ncontent-length: 3\r\n\r\na\r\n") as path:
        assert request_all([path], "/readyz", seconds=SECONDS) == {0: WorkerResponse(503, b"a\r\n")}


def test_an_answer_without_end_is_left() -> None:
    """No worker can fill our memory."""
    endless = b"HTTP/1.0 200 OK\r\ncontent-length: 999999\r\n\r\n" + b"x" * 999_999
    with short_folder() as folder, saying(folder / "0", endless) as path:
        assert request_all([path], "/metrics", seconds=SECONDS, max_bytes=100_000) == {}
        assert len(request_all([path], "/metrics", seconds=SECONDS)[0].body) == 999_999


# Whether they are alive.


@pytest.fixture
def probe(folder: Path) -> Iterator[LivenessProbe]:
    """A probe of two workers."""
    made = LivenessProbe([folder / "0", folder / "1"])
    yield made
    made.close()


def test_who_answers_is_alive_and_is_asked_again(folder: Path, probe: LivenessProbe) -> None:
    """Each look reports what came since the one before; a worker that comes later is found later."""
    assert probe.answered() == set()
    with listening(folder / "1"):
        for _ in range(3):
            wait_until(lambda: probe.answered() == {1})
        with listening(folder / "0"):
            wait_until(lambda: 0 in probe.answered())
            wait_until(lambda: 1 in probe.answered())
    wait_until(lambda: probe.answered() == set())


def test_a_late_answer_counts(folder: Path, probe: LivenessProbe) -> None:
    """On a busy processor an answer takes its time: the question stays open, however often it is looked for."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "0"))
        server.listen()
        for _ in range(100):
            assert probe.answered() == set()
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1000).startswith(b"GET /livez ")
            connection.sendall(b"HTTP/1.0 200 OK\r\n")
            assert probe.answered() == set()
            connection.sendall(b"content-length: 1\r\n\r\nx")
        assert probe.answered() == {0}
        server.settimeout(0)
        server.accept()[0].close()  # one more question, and no third
        with pytest.raises(BlockingIOError):
            server.accept()


def test_half_an_answer_is_no_sign_of_life(folder: Path, probe: LivenessProbe) -> None:
    """A worker that ends while it speaks is asked again."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "0"))
        server.listen()
        for said in (
            b"",
            b"HTTP/1.0 200 OK\r\ncontent-length: 9\r\n\r\n",
            b"HTTP/1.0 500 X\r\ncontent-length: 0\r\n\r\n",
        ):
            assert probe.answered() == set()
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(said)
    assert probe.answered() == set()


def test_an_answer_without_end_is_no_sign_of_life(folder: Path, probe: LivenessProbe) -> None:
    """Anyone who supervises does not read on for it: the worker is asked again."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "0"))
        server.listen()
        assert probe.answered() == set()
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 2 * MAX_LIVENESS_BYTES)
            assert probe.answered() == set()
            connection.settimeout(0)
            with pytest.raises(ConnectionError):
                connection.sendall(b"x")
        server.accept()[0].close()


def test_the_answer_of_a_worker_that_has_ended_is_not_its_successors(folder: Path, probe: LivenessProbe) -> None:
    """It would count as started, and be killed if its start takes long."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "0"))
        server.listen()
        assert probe.answered() == set()
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n")
    probe.forget(0)
    assert probe.answered() == set()


def test_a_refresh_is_every_workers(folder: Path) -> None:
    """Each worker fetches for itself; one that does not answer is named, and an unknown issuer is no issuer of any."""
    asked: list[str | None] = []

    def refresh(name: str | None) -> Mapping[str, object] | None:
        asked.append(name)
        return {"issuers": ["a&b"]} if name != "nobody" else None

    with listening(folder / "0.sock", refresh=refresh), listening(folder / "1.sock", refresh=refresh):
        workers = Workers([folder / f"{number}.sock" for number in range(3)], restarts=[0, 0, 0])
        assert workers.refresh_keys("a&b") == {"issuers": ["a&b"], "silent_workers": [2]}
        assert workers.refresh_keys("nobody") is None
        assert workers.refresh_keys(None) == {"issuers": ["a&b"], "silent_workers": [2]}
    assert asked == ["a&b", "a&b", "nobody", "nobody", None, None]
