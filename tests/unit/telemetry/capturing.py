"""Log lines as an operator gets them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from authz.telemetry.logs import set_up_logging


@contextmanager
def logging_to(log_format: str = "json", *, level: str = "debug", worker: int | None = None) -> Iterator[io.StringIO]:
    """Set up logging as the sidecar does, into a text; afterwards it is as before."""
    root, ours = logging.getLogger(), logging.getLogger("authz")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    set_up_logging(level=level, log_format=log_format, stream=stream, worker=worker)
    try:
        yield stream
    finally:
        root.handlers[:], level_of_root, level_of_ours = before
        root.setLevel(level_of_root)
        ours.setLevel(level_of_ours)


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    """Read JSON lines, each of which must be one."""
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.removesuffix("\n").split("\n") if line]
