"""`authz health`."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from authz.cli.files import FILE, Seconds, load_or_exit

if TYPE_CHECKING:
    import grpc

_DEFAULT: Final = "unix:/run/authz/authz.sock"
_SERVICE: Final = "envoy.service.auth.v3.Authorization"
_SERVING: Final = 1  # grpc.health.v1.HealthCheckResponse.ServingStatus
_TIMEOUT: Final = 1.0  # seconds, for one call
_POLL: Final = 0.1  # seconds between two calls with --wait
_WHY: Final = "why: `authz keys`, or GET /readyz at admin.listen"
_FIX: Final = "does `authz serve` run, with this server.listen? may this user open its socket?"


class _Health(IntEnum):
    """The answer of the sidecar; the value is the exit code."""

    SERVING = 0
    NOT_SERVING = 1
    UNREACHABLE = 2


@click.command()
@click.argument("address", required=False, metavar="[ADDRESS]")
@click.option("--config", "file", type=FILE, help="The sidecar's configuration, instead of ADDRESS.")
@click.option("--ca-file", type=FILE, help="Use TLS, and trust the authorities in this PEM file.")
@click.option("--cert-file", type=FILE, help="With --key-file: the client certificate, PEM.")
@click.option("--key-file", type=FILE, help="The private key of --cert-file, PEM.")
@click.option("--server-name", help="The name that the server's certificate must have, instead of ADDRESS's.")
@click.option(
    "--wait", type=Seconds(min=0), default=0.0, metavar="SECONDS", help="Retry for up to SECONDS until it serves."
)
def health(  # one parameter for each option
    *,
    address: str | None,
    file: Path | None,
    ca_file: Path | None,
    cert_file: Path | None,
    key_file: Path | None,
    server_name: str | None,
    wait: float,
) -> None:
    """Ask the sidecar at ADDRESS, unix:/path or host:port, whether it serves.

    Without ADDRESS and --config: at unix:/run/authz/authz.sock. All workers must
    serve: those of --config, or those with numbered sockets next to ADDRESS.

    \b
    Exit codes: 0 it serves; 1 it does not; 2 not reached, or bad arguments
    Examples:
      authz health
      authz health --config authz.yaml
      authz health unix:/run/authz/authz.sock --wait 60
    """  # noqa: D301 - click's mark against rewrapping
    if (cert_file is None) != (key_file is None) or (ca_file is None and (cert_file or server_name)):
        raise click.UsageError("--cert-file and --key-file go together, and with --ca-file; so does --server-name")
    if file is not None and address is not None:
        raise click.UsageError("ADDRESS and --config exclude each other: give one")
    if address is not None and ":" not in address:
        raise click.BadParameter(f"{address!r}: write unix:/path or host:port, as server.listen has it")
    configured = None if file is None else _find_workers(file, tls=ca_file is not None)
    deadline = time.monotonic() + wait
    with ExitStack() as open_:
        channels: dict[str, grpc.Channel] = {}

        def ask_all() -> tuple[_Health, str]:
            workers = configured or _find_sockets(address or _DEFAULT)
            for new in set(workers) - channels.keys():
                channels[new] = open_.enter_context(_open(new, ca_file, cert_file, key_file, server_name))
            return _sum_up([_ask(worker, channels[worker]) for worker in workers])

        status, text = ask_all()
        while status is not _Health.SERVING and time.monotonic() < deadline:
            time.sleep(_POLL)
            status, text = ask_all()
    click.echo(text, err=status is not _Health.SERVING)
    sys.exit(status)


def _find_workers(file: Path, *, tls: bool) -> list[str]:
    """Return the addresses of the workers of a configuration, as this host reaches them."""
    from authz.tooling.envoy_config.derive import endpoints

    config = load_or_exit(file)
    addresses = list(endpoints(config))
    if any(address.endswith(":0") for address in addresses):
        raise click.UsageError(f"{file}: server.listen is any free port: give ADDRESS; the log of serve shows it")
    if config.server.tls is not None and not tls and not addresses[0].startswith("unix:"):
        raise click.UsageError(f"{file}: server.tls is set: give --ca-file, and for client_ca_file also --cert-file")
    return addresses


def _find_sockets(address: str) -> list[str]:
    """Return *address*, or authz-0.sock, authz-1.sock ... if there is no authz.sock."""
    path = Path(address.removeprefix("unix:"))
    try:
        alone = path.exists() or not address.startswith("unix:")
    except OSError:  # no permission for the folder; connecting reports it
        alone = True
    if alone:
        return [address]
    return sorted(f"unix:{socket}" for socket in path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}")) or [address]


def _sum_up(answers: list[tuple[_Health, str]]) -> tuple[_Health, str]:
    """Return the worst state; for several workers the text is how many serve, after the texts of the others."""
    if len(answers) == 1:
        return answers[0]
    unwell = [text for state, text in answers if state is not _Health.SERVING]
    counted = f"{len(answers) - len(unwell)} of {len(answers)} workers serve"
    return max(state for state, _ in answers), "\n".join([*unwell, counted])


def _open(
    address: str, ca_file: Path | None, cert_file: Path | None, key_file: Path | None, server_name: str | None
) -> grpc.Channel:
    import grpc

    # With --wait the server may start at any moment: connect again at once, not after grpc's backoff of seconds.
    options: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 100)]
    options.append(("grpc.initial_reconnect_backoff_ms", 100))
    if ca_file is None:
        return grpc.insecure_channel(address, options)
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    credentials = grpc.ssl_channel_credentials(
        _read_pem(ca_file),
        _read_pem(key_file) if key_file is not None else None,
        _read_pem(cert_file) if cert_file is not None else None,
    )
    return grpc.secure_channel(address, credentials, options)


def _read_pem(file: Path) -> bytes:
    """Read a PEM file. Raises UsageError for other content, which grpc would report as an unreachable server."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file}: cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise click.UsageError(f"{file}: contains no PEM: no line begins with -----BEGIN")
    return content


def _ask(address: str, channel: grpc.Channel) -> tuple[_Health, str]:
    import grpc
    from grpc_health.v1 import health_pb2

    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        status = int(check(health_pb2.HealthCheckRequest(service=_SERVICE), timeout=_TIMEOUT).status)
    except grpc.RpcError as error:
        return _Health.UNREACHABLE, f"{address}: not reached: {error.details()} ({_FIX})"
    if status == _SERVING:
        return _Health.SERVING, f"{address}: serving"
    return _Health.NOT_SERVING, f"{address}: not serving ({_WHY})"
