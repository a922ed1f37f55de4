"""Set up logging: JSON lines, or text for people."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from typing import Final, TextIO

from pythonjsonlogger.json import JsonFormatter

from authz.telemetry.audit import AuditEntry
from authz.telemetry.background import BackgroundStream
from authz.telemetry.decision_line import LOGGER, SECOND, can_write, write_line
from authz.telemetry.ecs import EcsFormatter

Stream = TextIO | BackgroundStream
PERIOD: Final = 60.0  # seconds
MAX_TRACEBACKS: Final = 10  # per period and line of code: an error in each check would fill the disk
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class DecisionRecord(logging.LogRecord):
    """The record of a line about a decision; *more* are names and values in addition to those of *entry*.

    logging's own way to make a record looks for the caller, the thread and the process, which takes as long as a
    decision. What all of these records have in common is in the class; their fields are added only if they are read.
    """

    name = LOGGER
    levelno = logging.INFO
    levelname = "INFO"
    args = None
    exc_info = exc_text = stack_info = None
    pathname = filename = module = funcName = ""  # noqa: N815 - as logging names it
    lineno = 0
    thread = process = None
    threadName = processName = taskName = None  # noqa: N815 - as logging names them
    worker: int | None = None

    def __init__(self, entry: AuditEntry, more: Sequence[tuple[str, str]] = ()) -> None:
        self.created = created = time.time()
        self.msecs = created % 1 * 1000
        self.msg = f"{entry.decision} {entry.reason.value}"
        self.entry: Final = entry
        self.more: Final = more

    def fields(self) -> dict[str, object]:
        """Return the fields by name, as they are shown."""
        return {**self.entry.fields(), **dict(self.more)}


def set_up_logging(*, level: str, log_format: str, stream: Stream | None = None, worker: int | None = None) -> None:
    """Write the project's log lines of *level* and above as *log_format* says, to *stream* or to the same as before.

    Each line has the number of the *worker*, if there is one; without a *stream* the number stays as it was.
    """
    root = logging.getLogger()
    before = next((handler for handler in root.handlers if isinstance(handler, _Handler)), None)
    if stream is None and before is not None:
        handler = _Handler(before.stream, before.worker, failed=before.failed)
    else:
        handler = _Handler(sys.stderr if stream is None else stream, worker)
    if log_format == "json":
        formatter: logging.Formatter = _JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    elif log_format == "ecs":
        formatter = EcsFormatter()
    else:
        formatter = _TextFormatter("%(asctime)s %(levelname)-7s %(message)s")
    formatter.converter = time.gmtime  # RFC 3339, in UTC
    formatter.default_time_format, formatter.default_msec_format = SECOND, "%s.%03dZ"
    handler.setFormatter(formatter)
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries
    logging.getLogger("grpc._cython").setLevel(logging.CRITICAL)  # it logs metadata that clients chose
    logging.getLogger("authz").setLevel(_LEVELS[level])


def log_decision(entry: AuditEntry, more: Sequence[tuple[str, str]] = ()) -> None:
    """Write the line of a decision at level INFO: `entry`, and *more* names and values.

    In the sidecar it goes straight to the background thread: the ways of logging take a tenth of a decision.
    """
    if not _decisions.isEnabledFor(logging.INFO):
        return
    handlers = _root.handlers
    if len(handlers) == 1 and isinstance(handler := handlers[0], _Handler) and handler.in_background:
        handler.write_decision(entry, more)
    else:
        _decisions.handle(DecisionRecord(entry, more))


_root: Final = logging.getLogger()
_decisions: Final = logging.getLogger(LOGGER)


def lost_lines() -> int:
    """Return how many log lines of this process were lost: not formatted, dropped from a full queue, or not written."""
    return sum(handler.lost for handler in logging.getLogger().handlers if isinstance(handler, _Handler))


def _with_fields(record: logging.LogRecord) -> logging.LogRecord:
    """Return *record*; that of a decision as any other record, with its fields as attributes."""
    if not isinstance(record, DecisionRecord):
        return record
    usual = logging.makeLogRecord({"name": record.name, "msg": record.msg, "levelno": record.levelno})
    usual.__dict__.update(record.fields(), levelname=record.levelname, created=record.created, msecs=record.msecs)
    if record.worker is not None:
        usual.worker = record.worker
    return usual


class _JsonFormatter(JsonFormatter):
    """Formats one line as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        if isinstance(record, DecisionRecord) and can_write(record.entry):
            return write_line(record.entry, record.created, record.more, record.worker)
        return super().format(_with_fields(record))


class _Handler(logging.StreamHandler[Stream]):
    """The project's log handler. *failed* is the number of lines that could not be formatted or queued."""

    def __init__(self, stream: Stream, worker: int | None, *, failed: int = 0) -> None:
        super().__init__(stream)
        self.worker: Final = worker
        self.failed = failed
        self._tracebacks: Final[dict[tuple[str, int], tuple[float, int]]] = {}  # period start and count by line

    @property
    def in_background(self) -> bool:
        """Whether its stream takes whole lines from any thread."""
        return isinstance(self.stream, BackgroundStream)

    def write_decision(self, entry: AuditEntry, more: Sequence[tuple[str, str]]) -> None:
        """Write the line of a decision without a lock."""
        if type(self.formatter) is not _JsonFormatter or not can_write(entry):
            self.handle(DecisionRecord(entry, more))
            return
        try:
            self.stream.write(write_line(entry, time.time(), more, self.worker) + "\n")
        except Exception:  # noqa: BLE001 - as logging does
            self.acquire()
            try:
                self.handleError(DecisionRecord(entry, more))
            finally:
                self.release()

    @property
    def lost(self) -> int:
        return self.failed + (self.stream.lost if isinstance(self.stream, BackgroundStream) else 0)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging names it
        """Count the line. The default, a traceback on stderr, would block the logging thread while stderr is full."""
        self.failed += 1  # under the handler's lock
        if self.failed == 1:
            with suppress(Exception):
                self.stream.write(f"a log line of {record.name} was lost: {type(sys.exception()).__name__}\n")

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, unless it has a traceback and there were too many from the same place."""
        if not record.exc_info or self._has_room(record):
            super().emit(record)

    def _has_room(self, record: logging.LogRecord) -> bool:
        source_line = (record.pathname, record.lineno)
        since, lines = self._tracebacks.get(source_line, (-inf, 0))
        if not 0 <= record.created - since < PERIOD:
            if lines > MAX_TRACEBACKS:
                record.suppressed = lines - MAX_TRACEBACKS
            since, lines = record.created, 0
        self._tracebacks[source_line] = (since, lines + 1)
        return lines < MAX_TRACEBACKS

    def format(self, record: logging.LogRecord) -> str:
        if self.worker is not None:
            record.worker = self.worker
        return super().format(record if isinstance(self.formatter, _JsonFormatter) else _with_fields(record))


_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _TextFormatter(logging.Formatter):
    """Formats one line for people: the message, then the extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(
            f"{name}={_field(value)}"
            for name, value in vars(record).items()
            if name not in _STANDARD and value is not None
        )
        return f"{super().format(record)} {extra}".rstrip()


def _field(value: object) -> str:
    """Quote a value so that it cannot be read as further fields, or as another line."""
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


_BARE: Final = re.compile(r"[!#-<>-~]+")  # visible ASCII without quotation mark and equals sign
