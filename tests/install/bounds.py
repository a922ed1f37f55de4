"""Say which lower bounds of pyproject.toml are not what is installed here: bounds that no installation can reach.

    python -m tests.install.bounds [EXTRA ...]

For an environment of the lowest versions, with these extras, as `make lowest` makes it. A bound that another
requirement lifts is untrue: what it promises has never been tested.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import version
from itertools import chain

from packaging.requirements import Requirement
from packaging.version import Version

from tests.tools import ROOT


def promised(requirements: list[str]) -> dict[str, Version]:
    """Return the lower bound of each requirement that has one."""
    parsed = [Requirement(text) for text in requirements]
    return {each.name: Version(bound.version) for each in parsed for bound in each.specifier if bound.operator == ">="}


def unreached(bounds: dict[str, Version], installed: dict[str, Version]) -> list[str]:
    """Describe the bounds that are not the installed release."""
    return [
        f"{name}>={bound} is promised, and {installed[name]} is the lowest that can be installed"
        for name, bound in bounds.items()
        if installed[name] != bound
    ]


def main() -> int:
    """Check this environment; return the exit status."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    chosen = [extras[name] for name in sys.argv[1:]]
    bounds = promised([*chain(project["project"]["dependencies"], *chosen, groups["build"], groups["test"])])
    found = unreached(bounds, {name: Version(version(name)) for name in bounds})
    sys.stderr.writelines(f"{line}\n" for line in found)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
