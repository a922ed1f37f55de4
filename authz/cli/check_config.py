"""`authz check-config`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from authz.cli.files import BAD_CONFIG, FILE, FOUND, read_or_exit
from authz.cli.terminal import progress, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from authz.config.document import Document
    from authz.config.model import Config
    from authz.config.problems import Problem
    from authz.core.keys import KeySet


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
    found: list[str] = []
    lines: list[tuple[str, str | None]] = []
    if old_file is not None:
        from authz.tooling.compare.comparison import compare
        from authz.tooling.compare.effects import NEEDS_REVIEW

        changes = compare(read_or_exit(old_file)[1], config)
        output["changes"] = [change.document() for change in changes]
        lines += [(str(change), _COLOURS.get(change.effect)) for change in changes] or [("no differences", None)]
        if review := sum(change.effect in NEEDS_REVIEW for change in changes):
            found.append(f"to review before deployment: {review}")
    if fetch:
        shown, failures = _fetch(config, output)
        lines += shown
        found += failures
    if as_json:
        click.echo(json.dumps(output, indent=2))
    else:
        for warning in warned:
            level, shade = ("error", "red") if warning in refused else ("warning", "yellow")
            say(f"{file}:{warning.line}: {level}: {warning}", shade, err=True)
        for line, colour in lines:
            say(line, colour)
        counts = f"ok, issuers: {len(config.issuers)}, rules: {len(config.rules)}"
        if refused:
            found.insert(0, f"refused because they widen access: {len(refused)}")
        say(f"{file}: {'; '.join(['valid', *found]) if found else counts}")
    sys.exit(BAD_CONFIG if refused else FOUND if found else 0)


def _fetch(config: Config, output: dict[str, Any]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Ask other systems; add what they say to *output*, and return it as lines with colours, and what fails."""
    from authz.tooling.introspection_probe import probe_all
    from authz.tooling.pdp_probe import probe_pdps
    from authz.tooling.probe import fetch_all
    from authz.tooling.risk_probe import probe_risk
    from authz.tooling.signing_probe import probe_signing

    found = []
    with progress(f"fetching from {len(config.issuers)} issuers"):
        fetched, probed, pdps = fetch_all(config), probe_all(config), probe_pdps(config)
        tried, risk = list(probe_signing(config)), probe_risk(config)
    output["fetched"] = [each.document() for each in fetched]
    lines: list[tuple[str, str | None]] = [
        (line, None if each.usable else "red") for each in fetched for line in each.lines()
    ]
    if failed := sum(not each.usable for each in fetched):
        found.append(f"{failed} of {len(fetched)} issuers have no usable keys")
    if probed:
        output["introspection"] = [each.document() for each in probed]
        lines += [(line, None if each.ok else "red") for each in probed for line in each.lines()]
    if silent := sum(not each.ok for each in probed):
        found.append(f"{silent} of {len(probed)} issuers cannot be asked about tokens")
    if pdps:
        output["pdps"] = [each.document() for each in pdps]
        lines += [(line, None if each.ok else "red") for each in pdps for line in each.lines()]
    if silent := sum(not each.ok for each in pdps):
        found.append(f"{silent} of {len(pdps)} PDPs do not decide")
    if risk is not None:
        output["risk"] = risk.document()
        lines += [(line, None if risk.ok else "red") for line in risk.lines()]
        found += [] if risk.ok else ["the risk engine does not answer what the rules read"]
    if tried:
        output["upstream_token"] = [each.document() for each in tried]
        lines += [(each.line(), None if each.ok else "red") for each in tried]
    if unable := sum(not each.ok for each in tried):
        found.append(f"no token for the upstream by {unable} of {len(tried)}")
    _load_lists(config, output, lines, found)
    _ask_about_status(config, {each.issuer: each.keys for each in fetched}, output, lines, found)
    if config.shared_state is not None:
        from authz.tooling.shared_state_probe import probe_shared_state

        state = probe_shared_state(config.shared_state)
        output["shared_state"] = state.document()
        lines += [(line, None if state.ok else "red") for line in state.lines()]
        found += [] if state.ok else ["the shared state cannot be used"]
    return lines, found


def _load_lists(config: Config, output: dict[str, Any], lines: list[tuple[str, str | None]], found: list[str]) -> None:
    """Load the lists of revocations once, and add the result to what is printed."""
    from authz.tooling.list_probe import probe_lists

    listed = probe_lists(config)
    if listed:
        output["revocations"] = [each.document() for each in listed]
        lines += [(line, None if each.ok else "red") for each in listed for line in each.lines()]
    if bad := sum(not each.ok for each in listed):
        found.append(f"{bad} of {len(listed)} lists of revocations cannot be used as a whole")


def _ask_about_status(
    config: Config,
    keys: Mapping[str, KeySet | None],
    output: dict[str, Any],
    lines: list[tuple[str, str | None]],
    found: list[str],
) -> None:
    """Fetch status lists, and ask transmitters; add what they say to what is printed."""
    from authz.tooling.status_list_probe import probe_status_lists
    from authz.tooling.transmitter_probe import probe_transmitters

    listed, asked = probe_status_lists(config, keys), probe_transmitters(config)
    if listed:
        output["status_lists"] = [each.document() for each in listed]
        lines += [(line, None if each.ok else "red") for each in listed for line in each.lines()]
    if bad := sum(not each.ok for each in listed):
        found.append(f"{bad} of {len(listed)} status lists cannot be used")
    if asked:
        output["transmitters"] = [each.document() for each in asked]
        lines += [(line, None if each.ok else "red") for each in asked for line in each.lines()]
    if silent := sum(not each.ok for each in asked):
        found.append(f"{silent} of {len(asked)} transmitters of security events cannot be used")


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
        sys.exit(BAD_CONFIG)
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
