"""`authz serve`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Final

import click

from authz.cli.files import FILE, load_or_exit

if TYPE_CHECKING:
    from authz.app import App

_CANNOT_START: Final = 3  # exit code
_END: Final = frozenset({signal.SIGTERM, signal.SIGINT})
_SIGNALS: Final = _END | {signal.SIGHUP}
_STDERR: Final = 2  # file descriptor
_LAST_WORDS: Final = 1.0  # seconds for the last log lines
_POLL: Final = 0.1  # seconds between two looks at whether the drain has ended


@click.command()
@click.option("--config", "file", type=FILE, required=True, help="The configuration file.")
def serve(file: Path) -> None:
    """Serve Envoy's checks until SIGTERM.

    A second SIGTERM ends at once. SIGHUP, or a new file in place of the old, reloads the configuration.

    \b
    Exit codes: 0 drained; 2 bad configuration; 3 cannot start
    Example:
      authz serve --config authz.yaml
    """  # noqa: D301 - click's mark for lines that stay as they are
    # Blocked before any thread starts, for all of them, and waited for below: a handler would run only when the main
    # thread does, and a signal that the system gives to another thread does not wake it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        _serve(file)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(file: Path) -> None:
    from authz.app import App
    from authz.telemetry.background import BackgroundStream
    from authz.telemetry.logs import set_up_logging
    from authz.telemetry.traces import TracingError

    config = load_or_exit(file)
    stream = BackgroundStream(_STDERR)
    set_up_logging(level=config.telemetry.log_level, log_format=config.telemetry.log_format, stream=stream)
    try:
        app = App(file, config)
        app.start()
    except (OSError, TracingError) as error:
        click.echo(f"authz cannot start: {error}", err=True)
        sys.exit(_CANNOT_START)
    while signal.sigwait(_SIGNALS) == signal.SIGHUP:
        app.reload()
    _drain(app)
    stream.drain(seconds=_LAST_WORDS)


def _drain(app: App) -> None:
    """Drain, or end at once by the next signal."""
    drain = Thread(target=app.drain, name="drain", daemon=True)
    drain.start()
    while drain.is_alive():
        if (again := signal.sigtimedwait(_END, _POLL)) is not None:
            signal.signal(again.si_signo, signal.SIG_DFL)
            os.kill(os.getpid(), again.si_signo)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
