"""Problems of a configuration file, as they are shown to its author."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KeyPath = tuple[str | int, ...]
"""The path of a value: the keys and list indices from the top of the file."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to fix: the *path* of the value, its *line* (from 1) once known, what is wrong, and a *hint*.

    A warning that *widens* is a likely mistake by which too much is allowed: `check-config --strict` fails.
    """

    path: KeyPath
    message: str
    hint: str = ""
    line: int | None = None
    widens: bool = False

    def __str__(self) -> str:
        where = render_path(self.path)
        message = f"{self.message} ({self.hint})" if self.hint else self.message
        return f"{where}: {message}" if where else message


class ConfigError(Exception):
    """Raised if a configuration is invalid; contains all *problems* that were found in *file*, in order."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__(file, self.problems)

    def __str__(self) -> str:
        """One line for each problem: `file:line: path: message (hint)`."""
        return "\n".join(
            f"{self.file}: {problem}" if problem.line is None else f"{self.file}:{problem.line}: {problem}"
            for problem in self.problems
        )


def render_path(path: KeyPath) -> str:
    """Format a path as `rules[1].match.paths[0]`; keys with other characters are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{quote(step)}]"
    return text


def quote(value: object) -> str:
    """Format a value of the file for a message: quoted, control characters escaped, at most about 60 characters."""
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return ascii(text) if text.isascii() else repr(text)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that *word* is most likely a misspelling of, or None."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[near[0]] if near else None


def suggest(word: str, choices: Iterable[str]) -> str:
    """Return the hint "did you mean `x`?" for the choice nearest to *word*, or no hint."""
    near = nearest(word, choices)
    return f"did you mean `{near}`?" if near else ""
