"""Proves what a real Envoy answers by itself, with which details in its access log: REASONS lists each."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from authz.demo.envoy import Envoy
from tests.e2e.test_streams import open_envoy
from tests.fakes.waiting import HANG_SECONDS, wait_until
from tests.tools import ROOT, path

pytestmark = pytest.mark.needs("envoy", "curl")

PAGE = ROOT / "authz/core/REASONS.md"
H1, H2, OLD = "--http1.1", "--http2-prior-knowledge", "--http1.0"


def fields(count: int, line: str) -> list[str]:
    """As many header fields; `{}` in *line* is the number of each."""
    return [part for number in range(count) for part in ("--header", line.format(number))]


LARGE = ["--header", "x-large: " + "a" * 62_000]  # with more, curl itself refuses
UPGRADE = ["--header", "connection: upgrade", "--header", "upgrade: websocket"]


CASES = [
    ([H1, *UPGRADE], 403, "upgrade_failed"),
    ([OLD], 426, "low_version"),
    ([H1, *fields(101, "x-pad-{}: 1")], 431, "http1.too_many_headers"),
    ([H1, *LARGE], 431, "http1.headers_too_large"),
    ([H2, *fields(101, "x-pad-{}: 1")], 0, "http2.too_many_headers"),
    ([H2, "--header", "x_y: 1"], 0, "http2.unexpected_underscore"),
    ([H1, "--header", "x_y: 1"], 400, "http1.unexpected_underscore"),
]
# Over HTTP/2 a client may send each cookie as a field (RFC 9113 section 8.2.3), as browsers do: Envoy 1.37 did not
# count those; and it wrote of large fields that they are many.
COUNTED = [
    ([H2, *fields(101, "cookie: pad{}=1")], 0, "http2.too_many_headers"),
    ([H2, *LARGE], 0, "http2.header_list_size_too_large"),
]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(CASES, id="by any Envoy"),
        pytest.param(COUNTED, id="cookies and large fields", marks=pytest.mark.needs("envoy>=1.38")),
    ],
)
def test_what_envoy_refuses_by_itself(cases: list[tuple[list[str], int, str]]) -> None:
    """The status that the client gets, 0 for a stream that is reset, and the details that the operator finds."""
    page = PAGE.read_text(encoding="utf-8")
    curl = [path("curl"), "--silent", "--max-time", str(HANG_SECONDS), "--output", "/dev/null"]
    with tempfile.TemporaryDirectory(prefix="authz-") as folder:
        envoy = open_envoy(1, Path(folder), upgrades=False)
        envoy.start()
        try:
            statuses = [
                subprocess.run(
                    [*curl, "--write-out", "%{http_code}", *arguments, envoy.url],
                    check=False,
                    capture_output=True,
                    text=True,
                ).stdout
                for arguments, _, _ in cases
            ]
            assert [int(status) for status in statuses] == [status for _, status, _ in cases]
            wait_until(lambda: len(logged(envoy)) == len(cases))
            assert logged(envoy) == [details for _, _, details in cases]
        finally:
            envoy.stop()
    for _, status, details in cases:
        shown = re.escape(str(status or "reset"))
        assert re.search(rf"^- (?:.*; )?{shown} (?:`[\w.]+`, )*`{re.escape(details)}`", page, re.MULTILINE), details


def logged(envoy: Envoy) -> list[str]:
    """The details in the access log, in the order of the requests."""
    lines = envoy.process.log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["details"] for line in lines if line.startswith("{")]
