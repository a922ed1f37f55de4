"""The sample configuration, and small ones to vary."""

from __future__ import annotations

from typing import Final

from authz.config.load import parse
from authz.config.model import Config
from authz.config.problems import ConfigError
from tests.tools import ROOT

DATA: Final = ROOT / "tests/data"
SAMPLE: Final = DATA / "config.yaml"

SMALL: Final = """version: 1
issuers:
  corporate:
    issuer: https://login.example.com/
    audiences: [orders-api]
"""
RULES: Final = """rules:
  - name: orders
    match: {paths: [/orders]}
"""


def configure(*, issuer: str = "", rule: str = "", more: str = "") -> Config:
    """Load the smallest configuration, with lines added to its issuer, to its rule and at its end."""
    return parse(small(issuer=issuer, rule=rule, more=more), file="authz.yaml")


def small(*, issuer: str = "", rule: str = "", more: str = "") -> str:
    """Write the smallest configuration, with lines added to its issuer, to its rule and at its end."""
    return SMALL + _indented(issuer) + RULES + _indented(rule) + more


def problems(text: str) -> list[str]:
    """Load *text* and return what is wrong with it, as `line: path: message`."""
    try:
        parse(text, file="authz.yaml")
    except ConfigError as error:
        return [line.removeprefix("authz.yaml:") for line in str(error).splitlines()]
    return []


def _indented(text: str) -> str:
    return f"    {text}\n" if text else ""
