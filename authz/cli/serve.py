"""`authz serve`."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from threading import Thread
from typing import TYPE_CHECKING, Final

import click

from authz.cli.files import FILE, load_or_exit

if TYPE_CHECKING:
    from authz.app import App
    from authz.config.model import Config

_CANNOT_START: Final = 3  # exit code
_END: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS: Final = _END | {signal.SIGHUP}
_STDIN: Final = 0  # file descriptors
_STDERR: Final = 2
_DESCRIPTORS: Final = 4096  # a thousand connections of Envoys, those of the admin port and to issuers, files
# Of gRPC's core: it writes what strangers send to stderr, newlines and all, beside our log.
_QUIET: Final = {"GRPC_VERBOSITY": "NONE"}
# It reads connections on three threads of its own, and hands what it read to ours: a third of what a check costs.
# Without them our thread reads while it polls; and does nothing else where somebody sends frames without end (a flood
# of pings on two connections did that). So they go only where Envoy alone can connect.
READ_WHILE_POLLING: Final = {"GRPC_EXPERIMENTS": "-event_engine_listener"}
# Seconds that another thread may keep the interpreter while the one that judges wants it. By default 5 ms: with every
# check traced, one in a hundred waited that long.
_TURN: Final = 0.0005
_LAST_WORDS: Final = 1.0  # seconds for the last log lines
_POLL: Final = 0.1  # seconds between two looks at whether the drain has ended


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several processes: its own addresses, in place of the configured ones, and its supervisor's `server`."""

    number: int
    listen: str
    admin_socket: str
    server: str  # JSON


@click.command()
@click.option("--config", "file", type=FILE, required=True, help="The configuration file.")
@click.option("--worker", "number", type=int, hidden=True)  # also for who reads a list of processes
@click.option("--listen", default="", hidden=True)
@click.option("--admin-socket", default="", hidden=True)
@click.option("--server", default="", hidden=True)
def serve(*, file: Path, number: int | None, listen: str, admin_socket: str, server: str) -> None:
    """Serve Envoy's checks until SIGTERM.

    A second SIGTERM ends at once. SIGHUP, or a new file in place of the old, reloads the configuration.

    \b
    Exit codes: 0 drained; 1 a worker did not drain; 2 bad configuration;
    3 cannot start
    Example:
      authz serve --config authz.yaml
    """  # noqa: D301 - click's mark for lines that stay as they are
    # Blocked before any thread starts, for all of them, and waited for below: a handler would run only when the main
    # thread does, and a signal that the system gives to another thread does not wake it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS | {signal.SIGCHLD})
    try:
        _serve(file, None if number is None else Worker(number, listen, admin_socket, server))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(file: Path, worker: Worker | None) -> None:
    from authz.telemetry.background import BackgroundStream
    from authz.telemetry.logs import set_up_logging

    config = load_or_exit(file)
    _set_up_grpc(config.server.listen if worker is None else worker.listen)
    _raise_descriptor_limit()
    sys.setswitchinterval(_TURN)
    stream = BackgroundStream(_STDERR)
    telemetry, number = config.telemetry, worker.number if worker is not None else None
    set_up_logging(level=telemetry.log_level, log_format=telemetry.log_format, stream=stream, worker=number)
    supervised = worker is None and config.server.workers > 1
    status = _supervise(file, config) if supervised else _run(file, config, worker)
    if status < 0:
        _end_by(-status)
    stream.drain(seconds=_LAST_WORDS)
    sys.exit(status)


def _set_up_grpc(listen: str) -> None:
    """Tell gRPC's core, before it is there, what it cannot be told later."""
    from authz.config.address import UnixAddress, parse_address

    among_friends = isinstance(parse_address(listen), UnixAddress)
    for name, value in {**_QUIET, **(READ_WHILE_POLLING if among_friends else {})}.items():
        os.environ.setdefault(name, value)


def _raise_descriptor_limit() -> None:
    """Make room for every connection that the server accepts, where the system gives a process fewer by default."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if soft != RLIM_INFINITY and soft < _DESCRIPTORS:
        setrlimit(RLIMIT_NOFILE, (_DESCRIPTORS if hard == RLIM_INFINITY else min(hard, _DESCRIPTORS), hard))


def _supervise(file: Path, config: Config) -> int:
    from authz.supervisor import supervise

    def next_signal(seconds: float) -> int | None:
        found = signal.sigtimedwait(_SIGNALS | {signal.SIGCHLD}, seconds)
        return None if found is None or found.si_signo == signal.SIGCHLD else found.si_signo

    try:
        return supervise(file, config, next_signal)
    except OSError as error:
        return _explain(error)


def _run(file: Path, config: Config, worker: Worker | None) -> int:
    """Be the one process, or *worker*; return the exit status, -N where a second signal N ended it."""
    from authz.app import App
    from authz.config.address import UnixAddress, parse_address
    from authz.config.model import Server
    from authz.leftovers import clear_sockets
    from authz.telemetry.traces import TracingError

    if worker is not None:
        Thread(target=_end_with_supervisor, name="lifeline", daemon=True).start()
    try:
        if worker is None:
            app = App(file, config)
            clear_sockets(config.server.listen, workers=1)
        else:
            # Not what the file says by now: it would mix with the address, say a port for the network with no TLS.
            config = config.model_copy(update={"server": Server.model_validate_json(worker.server)})
            app = App(file, config, listen=parse_address(worker.listen), admin=UnixAddress(worker.admin_socket))
        app.start()
    except (OSError, TracingError) as error:
        return _explain(error)
    while signal.sigwait(_SIGNALS) == signal.SIGHUP:
        app.reload()
    return _drain(app)


def _drain(app: App) -> int:
    """Drain, or not where the next signal to end comes; return the exit status."""
    drain = Thread(target=app.drain, name="drain", daemon=True)
    drain.start()
    while drain.is_alive():
        if (again := signal.sigtimedwait(_END, _POLL)) is not None:
            return -again.si_signo
    return 0


def _end_by(number: int) -> None:
    """End at once, as if we had never waited for signals."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def _end_with_supervisor() -> None:
    """Drain when the supervisor is gone: its end of our stdin is closed then."""
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _explain(error: Exception) -> int:
    click.echo(f"authz cannot start: {error}", err=True)
    return _CANNOT_START
