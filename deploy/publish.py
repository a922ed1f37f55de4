"""Copy the charts for a release: `publish.py OWNER/REPOSITORY FOLDER` writes its names into them.

In a clone nothing can know where the project is published, so the charts say OWNER/REPOSITORY, and have no image. The
workflow of a release knows, and with its charts `helm install oci://...` needs no other values for the image.
"""

# ruff: noqa: INP001 - a program, and no part of a package
from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

CHARTS: Final = Path(__file__).resolve().parent / "charts"
_REGISTRY: Final = "ghcr.io"
_UNNAMED: Final = "OWNER/REPOSITORY"


def publish(repository: str, folder: Path) -> None:
    """Copy the charts into *folder*, which must not exist. Raises ValueError if a chart lacks what is to be named."""
    image = repository.lower()  # as registries want it
    shutil.copytree(CHARTS, folder, ignore=shutil.ignore_patterns("*.tgz", "Chart.lock"))
    for about in folder.glob("*/Chart.yaml"):
        replace(about, (f"{_REGISTRY}/{_UNNAMED}", f"{_REGISTRY}/{image}"), (_UNNAMED, repository))
        version = re.findall(r"^version: (.+)$", about.read_text(encoding="utf-8"), flags=re.MULTILINE)[0]
        page = about.with_name("README.md")
        place = f"https://github.com/{repository}/blob/v{version}/deploy/charts/{about.parent.name}/"
        page.write_text(absolute(page.read_text(encoding="utf-8"), place), encoding="utf-8")
    values = folder / "authz-sidecar/values.yaml"
    replace(
        values, ('  registry: ""\n', f"  registry: {_REGISTRY}\n"), ('  repository: ""\n', f"  repository: {image}\n")
    )


def absolute(page: str, place: str) -> str:
    """Return a page whose links lead from *place*, a URL: away from the clone there is nothing beside it."""
    return re.sub(r"\]\((?!https?:|#)([^)]+)\)", lambda link: f"]({urljoin(place, link[1])})", page)


def replace(file: Path, *pairs: tuple[str, str]) -> None:
    """Replace each first text by its second."""
    text = file.read_text(encoding="utf-8")
    for old, new in pairs:
        if old not in text:
            raise ValueError(f"{file} has no {old!r}")
        text = text.replace(old, new)
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    publish(sys.argv[1], Path(sys.argv[2]))
