"""`authz drain-envoy`."""

from __future__ import annotations

import sys
import time
from http import HTTPStatus
from typing import Final

import click

from authz.cli.files import EXIT_FAILURE, Seconds

_DEFAULT: Final = "127.0.0.1:9901"
_TARGET: Final = "/drain_listeners?graceful"
_TIMEOUT_SECONDS: Final = 5.0  # of one request
_POLL_SECONDS: Final = 0.1


@click.command("drain-envoy")
@click.argument("address", default=_DEFAULT, metavar="[ADDRESS]")
@click.option(
    "--wait", type=Seconds(min=0), default=0.0, metavar="SECONDS", help="Wait for up to SECONDS until it has ended."
)
def drain_envoy(*, address: str, wait: float) -> None:
    """Drain the Envoy whose admin interface is at ADDRESS, host:port.

    Without ADDRESS: at 127.0.0.1:9901. Envoy asks its clients to close their
    connections, and accepts no others after its --drain-time-s; requests in flight
    continue. The command does not stop Envoy. For the preStop hook of the sidecar,
    because Envoy's image has no HTTP client.

    \b
    Exit codes: 0 it drains (with --wait: and ended); 1 not reached, or not ended;
                2 bad arguments
    Examples:
      authz drain-envoy
      authz drain-envoy 127.0.0.1:9901 --wait 25
    """  # noqa: D301 - click's mark against rewrapping
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise click.BadParameter(f"{address!r}: write host:port, as Envoy's admin.address has it")
    deadline = time.monotonic() + wait
    try:
        status = _request(host.strip("[]"), int(port), "POST", _TARGET, _TIMEOUT_SECONDS)
    except OSError as error:
        click.echo(f"{address}: not reached: {error} (is this Envoy's admin.address?)", err=True)
        sys.exit(EXIT_FAILURE)
    if status != HTTPStatus.OK:
        click.echo(f"{address}: HTTP status {status} (is this Envoy's admin.address?)", err=True)
        sys.exit(EXIT_FAILURE)
    while wait:
        left = min(_TIMEOUT_SECONDS, max(deadline - time.monotonic(), _POLL_SECONDS))
        try:
            _request(host.strip("[]"), int(port), "GET", "/ready", left)
        except ConnectionRefusedError:
            return
        except OSError:  # a busy Envoy answers late: only one whose port is closed has ended
            pass
        if time.monotonic() > deadline:
            click.echo(f"{address}: drains, and has not ended after {wait:g} s", err=True)
            sys.exit(EXIT_FAILURE)
        time.sleep(_POLL_SECONDS)


def _request(host: str, port: int, method: str, target: str, seconds: float) -> int:
    """Send one request to the admin interface; return its status, within *seconds* each step. Raises OSError."""
    from http.client import HTTPConnection, HTTPException

    connection = HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request(method, target)
        return connection.getresponse().status
    except HTTPException as error:
        raise OSError(type(error).__name__) from error
    finally:
        connection.close()
