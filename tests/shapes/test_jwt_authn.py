"""Envoy's jwt_authn takes nothing that this sidecar refuses, but what COMPARISON lists with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shapes.jwt_authn import allowed_by_envoy
from tests.shapes.test_shapes import SHAPES


@pytest.mark.needs("envoy")
def test_whoever_moves_from_jwt_authn_loses_no_issuer(tmp_path: Path) -> None:
    """Every shape whose token Envoy takes is taken here, or is a row of the table; no row is out of date."""
    allowed = allowed_by_envoy(SHAPES, tmp_path)
    refused_here = {name for name, shape in SHAPES.items() if shape.refused}
    assert {name: SHAPES[name].deliberate for name in allowed & refused_here} == {
        name: shape.deliberate for name, shape in SHAPES.items() if shape.deliberate
    }
