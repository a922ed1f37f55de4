"""A program: read checked configurations without pydantic, and print what they say."""

from __future__ import annotations

import json
import sys
from typing import Final

from authz.config import plain

plain.choose(plain.Form.PLAIN)

from authz.config.build import build_snapshot  # noqa: E402 - the choice is made before
from authz.config.model import Config  # noqa: E402
from authz.runtime.loaded import unpack  # noqa: E402
from tests.unit.runtime.describing import describe, describe_sections  # noqa: E402

_NOT_NEEDED: Final = {"pydantic", "pydantic_core", "yaml"}


def main() -> None:
    """Print what was packed in each line of stdin, in hexadecimal."""
    configs: list[Config] = [unpack(bytes.fromhex(line)).config for line in sys.stdin]
    answer = {
        "sections": describe_sections(),
        "configs": [describe(config, build_snapshot(config)) for config in configs],
        "imported": sorted(_NOT_NEEDED.intersection(sys.modules)),
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
