"""`authz check-config`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from authz.cli.files import EXIT_FAILURE, EXIT_USAGE, FILE, read_or_exit
from authz.cli.terminal import progress, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.config.document import Document
    from authz.config.model import Config
    from authz.config.problems import Problem


def _complete_upstreams(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    from authz.tooling.upstreams import UPSTREAMS

    return [name for name in UPSTREAMS if name.startswith(incomplete)]


@click.command("check-config")
@click.argument("file", type=FILE)
@click.option("--fetch", is_flag=True, help="Also fetch each issuer's keys, ask it about a token, and try to sign.")
@click.option(
    "--diff", "old_file", type=FILE, metavar="OLD", help="Also show the differences from OLD, and their effects."
)
@click.option("--strict", is_flag=True, help="Refuse likely mistakes by which more requests pass than should.")
@click.option(
    "--upstream",
    metavar="NAME",
    shell_complete=_complete_upstreams,
    help="Also warn of what this kind of upstream serves otherwise, such as express; the page of the rules lists them.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of lines.")
def check_config(
    *, file: Path, fetch: bool, old_file: Path | None, strict: bool, upstream: str | None, as_json: bool
) -> None:
    """Report all errors in FILE, and warnings for its author.

    --diff marks each difference by its effect on requests: widens (more are allowed),
    narrows (fewer), mixed; changes (something else), same (nothing), unknown (not
    decidable from the files); breaks (requests fail at an Envoy configured for OLD: it
    says what to do first).

    --strict makes errors of warnings that widen access: paths that are public by accident, rules
    that a weaker one precedes or follows, a subject without its issuer. What is written explicitly,
    such as shadow and insecure, stays a warning.

    \b
    Exit codes: 0 fine, perhaps with warnings
                1 an issuer has no usable key or no introspection, a PDP does not
                  decide, a list of revocations or statuses is broken, a
                  transmitter of events does not answer, a signing key does not
                  sign, no token is exchanged, or the shared state does not
                  answer (--fetch); a difference widens, is mixed, unknown or
                  breaks (--diff)
                2 errors in FILE or OLD (--strict: or warnings that widen access)
    Examples:
      authz check-config authz.yaml
      authz check-config --strict authz.yaml
      authz check-config --fetch authz.yaml
      authz check-config --diff deployed.yaml authz.yaml
      authz check-config --upstream express authz.yaml
    """  # noqa: D301 - click's mark against rewrapping
    from authz.config.diagnostics.warnings import warnings
    from authz.feeds.file_checks import warn_of_files

    check_upstream = _find_upstream(upstream) if upstream is not None else None
    document, config = _check_or_exit(file, as_json=as_json)
    more = check_upstream(config) if check_upstream is not None else ()
    warned = [document.locate(warning) for warning in (*warnings(config), *warn_of_files(config), *more)]
    refused = [warning for warning in warned if strict and warning.widens]
    output: dict[str, Any] = {
        "file": str(file),
        "ok": not refused,
        "issuers": len(config.issuers),
        "rules": len(config.rules),
        "errors": [_describe(warning) for warning in refused],
        "warnings": [_describe(warning) for warning in warned if warning not in refused],
    }
    findings = [f"refused because they widen access: {len(refused)}"] if refused else []
    lines: list[_Line] = []
    if old_file is not None:
        findings += _compare(read_or_exit(old_file)[1], config, output, lines)
    if fetch:
        findings += _fetch(config, output, lines)
    if as_json:
        click.echo(json.dumps(output, indent=2))
    else:
        for warning in warned:
            level, shade = ("error", "red") if warning in refused else ("warning", "yellow")
            say(f"{file}:{warning.line}: {level}: {warning}", shade, err=True)
        for line, colour in lines:
            say(line, colour)
        counts = f"ok, issuers: {len(config.issuers)}, rules: {len(config.rules)}"
        say(f"{file}: {'; '.join(['valid', *findings]) if findings else counts}")
    sys.exit(EXIT_USAGE if refused else EXIT_FAILURE if findings else 0)


_Line = tuple[str, str | None]
"""A line to print, and its colour."""


def _compare(old: Config, new: Config, output: dict[str, Any], lines: list[_Line]) -> list[str]:
    """Add the differences of two configurations to *output* and *lines*; return whether some are to be reviewed."""
    from authz.tooling.compare.comparison import compare
    from authz.tooling.compare.effects import NEEDS_REVIEW

    changes = compare(old, new)
    output["changes"] = [change.document() for change in changes]
    lines += [(str(change), _COLOURS.get(change.effect)) for change in changes] or [("no differences", None)]
    review = sum(change.effect in NEEDS_REVIEW for change in changes)
    return [f"to review before deployment: {review}"] if review else []


def _fetch(config: Config, output: dict[str, Any], lines: list[_Line]) -> list[str]:
    """Ask other systems; add what they answer to *output* and *lines*, and return what fails."""
    from authz.tooling.probes import probe_everything

    with progress(f"fetching from {len(config.issuers)} issuers"):
        groups = list(probe_everything(config))
    output.update({group.name: group.document() for group in groups})
    probes = [probe for group in groups for probe in group.probes]
    lines += [(line, None if probe.ok else "red") for probe in probes for line in probe.lines()]
    return [failure for group in groups for failure in group.failures()]


def _find_upstream(name: str) -> Callable[[Config], Iterator[Problem]]:
    """Return a function that finds how an upstream bypasses rules of a configuration. Raises BadParameter."""
    from authz.config.problems import suggest
    from authz.tooling.upstreams import UPSTREAMS, find_upstream_problems

    if name not in UPSTREAMS:
        hint = suggest(name, UPSTREAMS) or f"there are {', '.join(UPSTREAMS)}"
        raise click.BadParameter(f"no upstream is named {name!r}; {hint}", param_hint="--upstream")
    return lambda config: find_upstream_problems(config, UPSTREAMS[name])


def _check_or_exit(file: Path, *, as_json: bool) -> tuple[Document, Config]:
    """Load *file*, and check the existing files that it names; or print all errors and exit."""
    from authz.config.load import read, validate
    from authz.config.problems import ConfigError
    from authz.feeds.file_checks import check_files

    try:
        document = read(file)
        config = validate(document)
        if broken := [document.locate(problem) for problem in check_files(config)]:
            raise ConfigError(document.file, broken)
    except ConfigError as error:
        output = {"file": str(file), "ok": False, "errors": [_describe(problem) for problem in error.problems]}
        click.echo(json.dumps(output, indent=2) if as_json else str(error), err=not as_json)
        sys.exit(EXIT_USAGE)
    return document, config


def _describe(problem: Problem) -> dict[str, Any]:
    from authz.config.problems import render_path

    return {
        "line": problem.line,
        "path": render_path(problem.path),
        "message": problem.message,
        "hint": problem.hint,
    }


_COLOURS = {"breaks": "red", "widens": "red", "mixed": "red", "unknown": "yellow", "narrows": "green"}
