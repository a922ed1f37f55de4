"""`authz serve`."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from threading import Thread
from typing import TYPE_CHECKING, Final

import click

from authz.cli.files import EXIT_USAGE
from authz.config import plain
from authz.runtime.signals import END, RELOAD, SIGNALS, StartGuard, end_by

if TYPE_CHECKING:
    from authz.files.watch import FileWatch
    from authz.runtime.app import App
    from authz.runtime.fork_server import ForkServer, Request
    from authz.runtime.handover import Source
    from authz.runtime.loaded import Loaded
    from authz.runtime.process import ConnectedChild

_CANNOT_START: Final = 3  # exit code
_FILE: Final = click.Path(dir_okay=False, path_type=Path)  # a worker may start while the file is gone
_STDIN: Final = 0  # file descriptors
_STDERR: Final = 2
_DESCRIPTORS: Final = 4096  # a thousand connections of Envoys, those of the admin port and to issuers, files
# gRPC's core writes untrusted input to stderr, newlines included, next to our log.
_NO_CORE_LOG: Final = {"GRPC_VERBOSITY": "NONE"}
# gRPC's core reads connections on three threads of its own, and passes the data to ours: a third of the cost of a
# check. Without them our thread reads while it polls, and does nothing else if a peer sends frames without end (a flood
# of pings on two connections did that). So they are switched off only if no one but Envoy can connect.
READ_WHILE_POLLING: Final = {"GRPC_EXPERIMENTS": "-event_engine_listener"}
# Seconds that another thread may keep the interpreter while the thread that decides waits for it. The default is 5 ms:
# with every check traced, or beside pages of the console, one in a hundred waited that long. Shorter ones cost more
# switches than they save.
SWITCH_INTERVAL: Final = 0.0001
_LOG_FLUSH: Final = 1.0  # seconds for the last log lines
SEVERAL_WORKERS: Final = re.compile(r"""\bworkers\b["']?\s*:\s*+(?!1\b)""")  # at a guess, before it is parsed
_BEFORE_CHECKING: Final = (  # no section of the configuration: a child that checks it defines them in another form
    "authz.core.conditions",
    "authz.core.exchange",
    "authz.core.snapshot",
    "authz.core.status_list",
    "importlib.metadata",
    "pickle",
    "secrets",
)
_WHILE_CHECKING: Final = (
    "authz.admin.routes",
    "authz.config.build",
    "authz.core.authorize",
    "authz.feeds.fact_lanes",
    "authz.feeds.registry",
    "authz.feeds.transmitters",
    "authz.telemetry.report",
)
_AFTER_CHECKING: Final = ("authz.envoy.transport.cygrpc", "authz.runtime.app", "authz.telemetry.logs")
_POLL: Final = 0.1  # seconds between two checks whether the drain has ended


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several processes: its own addresses, instead of the configured ones, and its supervisor's handover."""

    number: int
    listen: str
    admin_socket: str
    handover: int  # a file descriptor


@dataclass(frozen=True, slots=True)
class _Start:
    """The configuration *loaded* from *source*, and the *watch* that began before the file was read."""

    file: Path
    watch: FileWatch
    source: Source
    loaded: Loaded
    fork_server: ForkServer | None = None


@click.command()
@click.option("--config", "file", type=_FILE, required=True, help="The configuration file.")
@click.pass_obj
def serve(guard: StartGuard | None, *, file: Path) -> None:
    """Serve Envoy's checks until SIGTERM.

    A second SIGTERM ends at once, and so does one that comes while it starts.
    SIGHUP, or a new file in place of the old, reloads the configuration.

    \b
    Exit codes: 0 drained; 1 a worker did not drain; 2 bad configuration;
    3 cannot start
    Example:
      authz serve --config authz.yaml
    """  # noqa: D301 - click's mark against rewrapping
    guard = guard or StartGuard()
    try:
        _serve(file, None, guard)
    finally:
        guard.close()


def fork_workers() -> None:
    """Run as the process that workers are forked from, until the supervisor ends."""
    from authz.runtime.fork_server import serve_requests

    _import_all(_WHILE_CHECKING)
    serve_requests(lambda: _import_all(_AFTER_CHECKING), _run_forked)


def _run_forked(request: Request, handover: int) -> int:
    guard = StartGuard()
    worker = Worker(request.number, request.listen, request.admin_socket, handover)
    try:
        _serve(Path(request.file), worker, guard)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    finally:
        guard.close()
    return 0


def _serve(file: Path, worker: Worker | None, guard: StartGuard) -> None:
    start = _load_handover(file, worker) if worker is not None else _load_or_exit(file, guard)
    from authz.telemetry.background import BackgroundStream
    from authz.telemetry.logs import set_up_logging

    config = start.loaded.config
    _set_up_grpc(config.server.listen if worker is None else worker.listen)
    _raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL)
    stream = BackgroundStream(_STDERR)
    telemetry, number = config.telemetry, worker.number if worker is not None else None
    set_up_logging(level=telemetry.log_level, log_format=telemetry.log_format, stream=stream, worker=number)
    supervised = worker is None and config.server.workers > 1
    if start.fork_server is not None and not supervised:
        start.fork_server.close()
    status = _supervise(start, guard) if supervised else _run(start, worker, guard)
    if status < 0:
        end_by(-status)
    stream.drain(seconds=_LOG_FLUSH)
    sys.exit(status)


def _load_handover(file: Path, worker: Worker) -> _Start:
    """Load what the supervisor passed to *worker*, or print the error and exit."""
    from authz.files.watch import FileWatch
    from authz.runtime.handover import Handover
    from authz.runtime.loaded import CheckFailedError

    try:
        handover = Handover.from_descriptor(worker.handover)
        return _Start(file, FileWatch(file, known=handover.source.stamp), handover.source, handover.load())
    except (CheckFailedError, OSError) as error:
        sys.exit(_explain(error))


def _load_or_exit(file: Path, guard: StartGuard) -> _Start:
    """Load *file*, or print all errors and exit."""
    try:
        child = _fork_check(file, guard)
    except OSError as error:
        sys.exit(_explain(error))
    from authz.config.problems import ConfigError
    from authz.files.watch import FileWatch
    from authz.runtime.handover import Source
    from authz.runtime.loaded import CheckFailedError

    try:
        watch = FileWatch(file)  # before the file is read: any later replacement is a change
        preparation = _Preparation()
        source = Source.read(file, watch, child=child, meanwhile=preparation.begin)
        return _Start(file, watch, source, source.load(), preparation.fork_server)
    except ConfigError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_USAGE)
    except (CheckFailedError, OSError) as error:
        sys.exit(_explain(error))


def _fork_check(file: Path, guard: StartGuard) -> ConnectedChild:
    """Start the child that checks *file*, with what it and this process both need imported once. Raises OSError."""
    from authz.runtime.process import fork_child

    def check() -> None:
        plain.choose(plain.Form.CHECKED)
        from authz.runtime.checking import main

        main(str(file))

    _import_all(_BEFORE_CHECKING)
    with guard.paused():
        return fork_child(check)


@dataclass(slots=True)
class _Preparation:
    """The work of this process while a child checks the configuration. gRPC has to wait for its result."""

    fork_server: ForkServer | None = None

    def begin(self, text: str) -> None:
        """Import most modules that serve; or, if *text* seems to configure several workers, start their fork server."""
        if not SEVERAL_WORKERS.search(text):
            _import_all(_WHILE_CHECKING)
            return
        from authz.runtime.fork_server import ForkServer

        self.fork_server = ForkServer()


def _import_all(names: Iterable[str]) -> None:
    for name in names:
        import_module(name)


def _set_up_grpc(listen: str) -> None:
    """Set the environment variables that gRPC's core reads once, at import."""
    from authz.config.address import UnixAddress, parse_address

    peers_are_trusted = isinstance(parse_address(listen), UnixAddress)
    for name, value in {**_NO_CORE_LOG, **(READ_WHILE_POLLING if peers_are_trusted else {})}.items():
        os.environ.setdefault(name, value)


def _raise_descriptor_limit() -> None:
    """Raise the limit of open files, if it is too low for the connections that the server accepts."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft != RLIM_INFINITY and soft < _DESCRIPTORS:
        setrlimit(RLIMIT_NOFILE, (_DESCRIPTORS if hard == RLIM_INFINITY else min(hard, _DESCRIPTORS), hard))


def _supervise(start: _Start, guard: StartGuard) -> int:
    from authz.runtime.multiprocess import supervise

    def next_signal(seconds: float) -> int | None:
        received = signal.sigtimedwait(SIGNALS, seconds)
        return None if received is None or received.si_signo == signal.SIGCHLD else received.si_signo

    guard.release()
    _freeze_heap()
    try:
        return supervise(
            start.file, start.loaded.config, start.source, start.watch, next_signal, fork_server=start.fork_server
        )
    except OSError as error:
        return _explain(error)


def _run(start: _Start, worker: Worker | None, guard: StartGuard) -> int:
    """Run the only process, or *worker*; return the exit status, -N if a second signal N ended it."""
    from authz.config.address import UnixAddress, parse_address
    from authz.feeds.shared.state import SharedStateError
    from authz.runtime.app import App
    from authz.runtime.stale_sockets import clear_sockets
    from authz.telemetry.otlp import ExportError

    if worker is not None:
        Thread(target=_end_with_supervisor, name="lifeline", daemon=True).start()
    server = start.loaded.config.server
    listen = parse_address(server.listen if worker is None else worker.listen)
    admin = None if worker is None else UnixAddress(worker.admin_socket)
    try:
        app = App(start.file, start.loaded, watch=start.watch, listen=listen, admin=admin)
        if worker is None:
            clear_sockets(server.listen, workers=1)
        if isinstance(listen, UnixAddress):
            guard.release()  # the socket file that is made now is removed by an orderly stop
        app.start()
        _freeze_heap()
        guard.release()  # not earlier, on TCP: resolving a host name may take long
    except (OSError, ExportError, SharedStateError) as error:
        return _explain(error)
    if signal.sigtimedwait(END, 0) is None:  # otherwise it came during the bind: no client relies on us yet
        app.become_ready()
        while signal.sigwait(END | {RELOAD}) == RELOAD:
            app.reload()
    return _drain(app)


def _freeze_heap() -> None:
    """Collect garbage from now on, but not among what a process keeps as long as it serves.

    A collection stops all threads: among ten thousand rules, for 30 ms.
    """
    gc.freeze()
    gc.enable()


def _drain(app: App) -> int:
    """Drain; return the exit status, -N if another termination signal N came first."""
    drain = Thread(target=app.drain, name="drain", daemon=True)
    drain.start()
    while drain.is_alive():
        if (again := signal.sigtimedwait(END, _POLL)) is not None:
            return -again.si_signo
    return 0


def _end_with_supervisor() -> None:
    """Drain when the supervisor is gone: then its end of our stdin is closed."""
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _explain(error: Exception) -> int:
    click.echo(f"authz cannot start: {error}", err=True)
    if traceback := getattr(error, "traceback", ""):
        click.echo(traceback, err=True)
    return _CANNOT_START
