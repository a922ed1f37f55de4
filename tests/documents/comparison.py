"""The table of deploy/COMPARISON.md that is made, not written: `python -m tests.documents.comparison` renews it.

Envoy's fields come from its own definition (PyPI xds-protos, in a process of its own); ours are in the reference.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Final

from tests.tools import ROOT, path

PAGE: Final = ROOT / "deploy/COMPARISON.md"
BEGIN: Final = "<!-- fields: made by tests/documents/comparison.py -->\n"
END: Final = "<!-- end of fields -->\n"
_MATTERS: Final = (  # what is compared, Envoy's messages, our sections of the reference
    ("how keys are fetched", ("RemoteJwks",), ("issuers.NAME.fetch",)),
    ("what a token must be", ("JwtProvider",), ("issuers.NAME", "token")),
    ("what a rule asks", ("RequirementRule", "JwtRequirement"), ("rules[].match", "rules[].require")),
    ("claims for the upstream", ("JwtClaimToHeader",), ("identity",)),
)
_REFERENCE: Final = "../authz/config/REFERENCE.md"


def envoy_fields() -> dict[str, list[str]]:
    """The fields of each message, by Envoy's own descriptors."""
    names = [name for _, messages, _ in _MATTERS for name in messages]
    program = (
        "import json; from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as c\n"
        f"print(json.dumps({{m: [f.name for f in getattr(c, m).DESCRIPTOR.fields] for m in {names!r}}}))"
    )
    environment = os.environ | {"PYTHONPATH": path("xds-protos")}
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd="/", env=environment, check=True, capture_output=True, text=True)
    fields: dict[str, list[str]] = json.loads(done.stdout)
    return fields


def write_table() -> str:
    """One row for each matter: Envoy's fields, and our sections."""
    fields = envoy_fields()
    rows = ["| matter | `jwt_authn` | this sidecar |", "|---|---|---|"]
    for matter, messages, sections in _MATTERS:
        theirs = "; ".join(f"{message}: {', '.join(f'`{name}`' for name in fields[message])}" for message in messages)
        ours = ", ".join(f"[{name}]({_REFERENCE}#{re.sub('[^a-z]', '', name.lower())})" for name in sections)
        rows.append(f"| {matter} | {theirs} | {ours} |")
    return "\n".join(rows) + "\n"


def renewed() -> str:
    """The page with the table of today."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    return f"{before}{begin}{write_table()}{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(renewed(), encoding="utf-8")
