"""Proves that the dashboard is one, by the schema that Grafana publishes: its TypeScript types, and the compiler."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.tools import ROOT, path

pytestmark = pytest.mark.needs("@grafana/schema", "tsc")

FILE: Final = ROOT / "deploy/observability/dashboard.json"
TYPES: Final = Path(__file__).with_name("dashboard.ts")
CONFIG: Final = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "skipLibCheck": True,
        "types": [],
    },
    "files": ["dashboard.ts"],
}

Document = dict[str, Any]


def complaints(dashboard: Document, folder: Path) -> list[str]:
    """Return what the compiler says of a dashboard, a line for each error."""
    (folder / "node_modules").symlink_to(Path(path("@grafana/schema")).parents[1])
    written = f"{TYPES.read_text()}export const dashboard: Json<OfSeries> = {json.dumps(dashboard, indent=1)};\n"
    (folder / "dashboard.ts").write_text(written)
    (folder / "tsconfig.json").write_text(json.dumps(CONFIG))
    done = subprocess.run(
        [path("tsc"), "--project", str(folder)], cwd=folder, check=False, capture_output=True, text=True
    )
    return done.stdout.splitlines() + done.stderr.splitlines()


def test_the_dashboard_is_of_grafanas_schema(tmp_path: Path) -> None:
    """Every member of it, of its variables and of its panels, by name and type."""
    assert complaints(json.loads(FILE.read_text()), tmp_path) == []


def _unit(document: Document) -> None:
    document["panels"][0]["fieldConfig"]["defaults"]["unit"] = 7


def _panel_member(document: Document) -> None:
    document["panels"][-1]["titel"] = "Decisions"


def _member(document: Document) -> None:
    document["refreshes"] = "30s"


def _place(document: Document) -> None:
    document["panels"][0]["gridPos"]["w"] = "12"


def _variable(document: Document) -> None:
    document["templating"]["list"][0]["type"] = "prometheus"


def _kind(document: Document) -> None:
    document["panels"][0]["type"] = "graph"


def _drawing(document: Document) -> None:
    document["panels"][0]["fieldConfig"]["defaults"]["custom"] = {"stacking": {"mode": "sideways"}}


@pytest.mark.parametrize("spoil", [_unit, _panel_member, _member, _place, _variable, _kind, _drawing])
def test_the_schema_is_not_blind(spoil: Callable[[Document], None], tmp_path: Path) -> None:
    """A member of a wrong name, type or value is one error."""
    document = json.loads(FILE.read_text())
    spoil(document)
    assert len([line for line in complaints(document, tmp_path) if ": error TS" in line]) == 1
