"""`authz envoy-config`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from authz.cli.files import CONFIG, EXIT_FAILURE, FILE, load_or_exit, parse_or_exit
from authz.cli.terminal import say

if TYPE_CHECKING:
    from authz.config.model import Config


_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


def _complete_names(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[str]:
    from authz.tooling.envoy_config.finding_kinds import FINDING_KINDS

    return [name for name in FINDING_KINDS if name.startswith(incomplete)]


@click.command("envoy-config")
@CONFIG
@click.option("--bootstrap", is_flag=True, help="Print a whole bootstrap instead of fragments to paste.")
@click.option("--listen", default="0.0.0.0:8080", show_default=True, help="With --bootstrap: where Envoy listens.")
@click.option("--upstream", default="127.0.0.1:3000", show_default=True, help="With --bootstrap: your service.")
@click.option("--admin", default="127.0.0.1:9901", show_default=True, help="With --bootstrap: Envoy's admin port.")
@click.option("--sidecar", metavar="HOST", help="Where Envoy reaches the sidecar, if not at server.listen's host.")
@click.option(
    "--trusted-hops", type=click.IntRange(0, 100), default=0, help="Proxies in front of Envoy that set x-forwarded-for."
)
@click.option("--client-certificates", is_flag=True, help="The listener asks clients for certificates (RFC 8705).")
@click.option(
    "--keep-header",
    "kept_headers",
    multiple=True,
    metavar="NAME",
    help="A header such as x-forwarded-host that your service needs of clients; may be given again.",
)
@click.option(
    "--receiver-path",
    default="/authz",
    show_default=True,
    help="Below this path Envoy takes messages for receivers.listen, if that is set.",
)
@click.option("--check", "envoy_file", type=FILE, help="Check this Envoy configuration, YAML or JSON, instead.")
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete_names,
    help="With --check: a finding that is intended; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of YAML or lines.")
def envoy_config(  # noqa: PLR0913 - one for each option
    *,
    file: Path,
    bootstrap: bool,
    listen: str,
    upstream: str,
    admin: str,
    sidecar: str | None,
    trusted_hops: int,
    client_certificates: bool,
    kept_headers: tuple[str, ...],
    receiver_path: str,
    envoy_file: Path | None,
    accepted: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print the Envoy configuration for a sidecar, or check an existing one.

    --check reports what in that file would let a request bypass the sidecar, or let
    a client forge an identity header. Notes are for you to review.

    \b
    Exit codes: 0 fine; 1 --check has findings; 2 bad arguments or files
    Examples:
      authz envoy-config --config authz.yaml
      authz envoy-config --config authz.yaml --bootstrap > envoy.yaml
      authz envoy-config --config authz.yaml --check envoy.yaml
      authz envoy-config --config authz.yaml --check envoy.yaml \\
        --accept route-not-checked
    """  # noqa: D301 - click's mark against rewrapping
    config = load_or_exit(file)
    if envoy_file is not None:
        sys.exit(_check(envoy_file, config, accepted, as_json=as_json))
    if accepted:
        raise click.UsageError("--accept requires --check")
    from authz.tooling.envoy_config import bootstrap as texts
    from authz.tooling.envoy_config.derive import derive, notes

    _check_addresses({"--listen": listen, "--upstream": upstream, "--admin": admin})
    _check_names(kept_headers, sidecar, receiver_path)
    settings = derive(
        config,
        host=sidecar,
        trusted_hops=trusted_hops,
        peer_certificate=client_certificates,
        kept_headers=kept_headers,
        receiver_prefix=receiver_path,
    )
    data = (
        texts.bootstrap(settings, listen=listen, upstream=upstream, admin=admin)
        if bootstrap
        else texts.fragments(settings)
    )
    click.echo(json.dumps(data, indent=2) if as_json else texts.write(data, notes(config)).rstrip("\n"))


def _check_addresses(addresses: Mapping[str, str]) -> None:
    from authz.config.address import parse_tcp_address

    for option, address in addresses.items():
        try:
            parse_tcp_address(address)
        except ValueError as error:
            raise click.BadParameter(f"{address!r}: {error}", param_hint=option) from None


def _check_names(kept_headers: tuple[str, ...], sidecar: str | None, receiver_path: str) -> None:
    """Check what the fragments are to name: headers, the sidecar's host, a path. Raises BadParameter."""
    from authz.config.address import is_host
    from authz.tooling.envoy_config.forwarded_headers import FORWARDED_HEADERS

    for name in kept_headers:
        if name.lower() not in FORWARDED_HEADERS:
            raise click.BadParameter(
                f"{name!r}: only {', '.join(FORWARDED_HEADERS)} are removed", param_hint="--keep-header"
            )
    if sidecar is not None and not is_host(sidecar):
        raise click.BadParameter(f"{sidecar!r}: write a host name or an IP address", param_hint="--sidecar")
    if not _PATH.fullmatch(receiver_path):
        raise click.BadParameter(f"{receiver_path!r}: write a path such as /authz", param_hint="--receiver-path")


def _check(envoy_file: Path, config: Config, accepted: tuple[str, ...], *, as_json: bool) -> int:
    """Print what was found, and return the exit code."""
    from authz.config.problems import suggest
    from authz.tooling.envoy_config.finding_kinds import FINDING_KINDS, Level
    from authz.tooling.envoy_config.review import review

    for name in accepted:
        if name not in FINDING_KINDS:
            hint = suggest(name, FINDING_KINDS)
            raise click.BadParameter(
                f"no finding is named {name!r}{f'; {hint}' if hint else ''}", param_hint="--accept"
            )
    reported = [finding for finding in review(parse_or_exit(envoy_file), config) if finding.name not in accepted]
    findings = sum(finding.kind.level is Level.FINDING for finding in reported)
    if as_json:
        click.echo(
            json.dumps({"file": str(envoy_file), "findings": [finding.document() for finding in reported]}, indent=2)
        )
    else:
        for finding in reported:
            say(f"{envoy_file}:{finding.line}: {finding}", "red" if finding.kind.level is Level.FINDING else "yellow")
        say(f"{envoy_file}: {f'findings: {findings}' if findings else 'ok'}, notes: {len(reported) - findings}")
    return EXIT_FAILURE if findings else 0
