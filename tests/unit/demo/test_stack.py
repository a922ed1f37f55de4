"""The demo's own configuration, as the sidecar reads it."""

from __future__ import annotations

from pathlib import Path

from authz.config.diagnostics.warnings import warnings
from authz.config.load import parse
from authz.demo.stack import AUDIENCE, configuration


def test_the_configuration_is_a_good_example() -> None:
    """It is valid as it stands, and loosens only what the demo cannot do without."""
    text = configuration(issuer="http://127.0.0.1:8081", socket=Path("/tmp/demo/authz.sock"), admin="127.0.0.1:9192")  # noqa: S108 - only a name

    config = parse(text, file="config.yaml")

    assert [".".join(map(str, warning.path)) for warning in warnings(config)] == [
        "issuers.demo.insecure.http",
        "responses.expose_reason",
    ]
    assert config.issuers["demo"].issuer == "http://127.0.0.1:8081"
    assert config.issuers["demo"].audiences == (AUDIENCE,)
    assert config.server.listen == "unix:/tmp/demo/authz.sock"
