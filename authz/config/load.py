"""Load the file as a validated configuration, or report all of its problems.

Steps: 1 parse the YAML · 2 reject keys without a value · 3 validate the data against the model · 4 run the checks that
need more than one key. Step 4 runs also if step 3 failed, on the valid parts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from authz.config.checks import check
from authz.config.diagnostics.messages import pydantic_errors
from authz.config.diagnostics.recover import Recovered, recover
from authz.config.document import Document, parse_document
from authz.config.model import Config
from authz.config.problems import ConfigError, KeyPath, Problem
from authz.config.text import read_text


def load(path: str | Path) -> Config:
    """Read and validate the configuration file at *path*. Raises ConfigError with all of its problems."""
    return validate(read(path))


def parse(text: str, *, file: str) -> Config:
    """Validate *text*; *file* is its name in messages. Raises ConfigError with all of its problems."""
    return validate(parse_document(text, file=file))


def read(path: str | Path) -> Document:
    """Read the YAML document at *path*. Raises ConfigError if it cannot be read, or is not YAML."""
    return parse_document(read_text(path), file=str(path))


def validate(document: Document) -> Config:
    """Validate a parsed document. Raises ConfigError with all of its problems."""
    without_value = [problem for problem in _without_value(document.data) if problem.path not in document.unread]
    unread = document.unread | {problem.path for problem in without_value}
    problems = [*document.problems, *without_value]
    config: Config | None = None
    try:
        config = Config.model_validate(document.data)
        recovered = Recovered(config)
    except ValidationError as error:
        problems += [problem for problem in pydantic_errors(error) if not _is_below(problem.path, unread)]
        recovered = recover(document.data, error)
    problems += _check_valid_parts(recovered, document, unread)
    if config is None or problems:
        raise ConfigError(document.file, map(document.locate, problems))
    return config


def _check_valid_parts(recovered: Recovered, document: Document, unread: frozenset[KeyPath]) -> Iterator[Problem]:
    if recovered.config is None:
        return
    # Rules refer to issuers and PDPs.
    unchecked = unread | {("rules",)} if recovered.replaced & {("issuers",), ("pdps",)} else unread
    for problem in check(recovered.config):
        if recovered.is_checked(problem.path) and not _is_below(problem.path, unchecked):
            yield replace(problem, line=document.line_of(recovered.path_in_file(problem.path)))


def _without_value(data: object, path: KeyPath = ()) -> Iterator[Problem]:
    """Report keys without a value: the lines below are commented out, or not indented enough."""
    if data is None:
        hint = "give it a value, or leave out the key" if path else "begin with version: 1, issuers and rules"
        yield Problem(path=path, message="is empty", hint=hint)
    children = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, child in children:
        yield from _without_value(child, (*path, step))


def _is_below(path: KeyPath, places: Collection[KeyPath]) -> bool:
    return any(path[:length] in places for length in range(len(path) + 1))
