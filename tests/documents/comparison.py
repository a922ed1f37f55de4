"""The page deploy/COMPARISON.md is made, not written: `python -m tests.documents.comparison` renews it.

Envoy's messages come from its own definition (PyPI xds-protos, in a process of its own); ours are in the reference.
The key sets are those of tests/shapes, which test_jwt_authn.py gives to the real Envoy.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Final

from tests.shapes.table import write_shapes
from tests.shapes.test_shapes import SHAPES
from tests.tools import ROOT, path

PAGE: Final = ROOT / "deploy/COMPARISON.md"
_SECTIONS: Final = {  # of the reference, by Envoy's message
    "RemoteJwks": ("issuers.NAME.fetch",),
    "JwtProvider": ("issuers.NAME", "token"),
    "RequirementRule": ("rules[].match",),
    "JwtRequirement": ("rules[].require",),
    "JwtClaimToHeader": ("identity",),
}
_REFERENCE: Final = "../authz/config/REFERENCE.md"
_PAGE: Final = """\
# From Envoy's own `jwt_authn` to this sidecar

For operators who move, or choose. Other projects: the [README](../README.md#compared-with-others).
Messages of `jwt_authn`, and what replaces them here:

{fields}
Envoy has no setting to fetch an unknown key: its tokens are denied until the next refresh.

## Key sets that `jwt_authn` accepts, and this refuses

Of {count} key sets, as providers publish them, these are refused here (in brackets: how many):

{shapes}
Documents are bounded: 256 KiB by default, 32 levels. This sidecar also accepts a byte order mark, standard or
multi-line base64, Ed448, ES256K and ML-DSA.

<!-- made by tests/documents/comparison.py -->
"""


def envoy_fields() -> dict[str, list[str]]:
    """The fields of each message, by Envoy's own descriptors."""
    names = list(_SECTIONS)
    program = (
        "import json; from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as c\n"
        f"print(json.dumps({{m: [f.name for f in getattr(c, m).DESCRIPTOR.fields] for m in {names!r}}}))"
    )
    environment = os.environ | {"PYTHONPATH": path("xds-protos")}
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, cwd="/", env=environment, check=True, capture_output=True, text=True)
    fields: dict[str, list[str]] = json.loads(done.stdout)
    return fields


def write_fields() -> str:
    """One line for each of Envoy's messages, and our sections."""
    rows = []
    for message in envoy_fields():
        ours = (f"[{name}]({_REFERENCE}#{re.sub('[^a-z]', '', name.lower())})" for name in _SECTIONS[message])
        rows.append(f"- `{message}`: {', '.join(ours)}")
    return "\n".join(rows) + "\n"


def renewed() -> str:
    """The page of today."""
    return _PAGE.format(fields=write_fields(), shapes=write_shapes(SHAPES.values()), count=len(SHAPES))


if __name__ == "__main__":
    PAGE.write_text(renewed(), encoding="utf-8")
