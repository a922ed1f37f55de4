"""Find what breaks while Envoy still has the configuration for the old file.

Each setting that `derive` reads from the configuration has an entry in BREAKAGES: what happens to requests until Envoy
has its new value. A value that is only not optimal any more, such as a lower limit, breaks nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from authz.config.model import Config
from authz.tooling.compare.effects import Change, Effect
from authz.tooling.envoy_config.derive import PROOF_HEADER, derive
from authz.tooling.envoy_config.fragments import EnvoySettings
from authz.tooling.envoy_config.requirements import EnvoyRequirements, requirements_of

FindBreakage = Callable[[EnvoySettings, EnvoySettings, EnvoyRequirements], Iterator[tuple[str, str]]]
"""Yields keys of the sidecar's file and what breaks there, from the old and new settings and the new requirements."""

_RELOAD_FIRST: Final = "first reload Envoy with what `authz envoy-config` prints for the new file"
_BOTH_ENDPOINTS: Final = (
    "first give Envoy the old and the new endpoints: its health checks leave out those that do not answer"
)
_RELOAD_TOGETHER: Final = (
    "reload Envoy with what `authz envoy-config` prints for the new file when the sidecar restarts"
)


def compare_envoys(old: Config, new: Config) -> Iterator[Change]:
    """Yield what fails if Envoy is configured for *old* and the sidecar for *new*, with what to do first."""
    before, after, requirements = derive(old), derive(new), requirements_of(new)
    for find in BREAKAGES.values():
        for about, text in find(before, after, requirements):
            yield Change(Effect.BREAKS, about, text)


def _no_breakage(_old: EnvoySettings, _new: EnvoySettings, _needs: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    return iter(())


def _endpoints(old: EnvoySettings, new: EnvoySettings, _: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    missing = [address for address in new.endpoints if address not in old.endpoints]
    if len(missing) == len(new.endpoints):
        yield (
            "server.listen",
            f"Envoy calls {', '.join(old.endpoints)}, and answers 503 to every request; {_BOTH_ENDPOINTS}",
        )
    elif missing:
        yield "server.workers", f"Envoy never calls {', '.join(missing)}; {_BOTH_ENDPOINTS}"


def _timeout(old: EnvoySettings, _: EnvoySettings, requirements: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    if old.timeout_ms < requirements.wait_ms:
        problem = f"Envoy times out after {old.timeout_ms} ms, and an answer may take {requirements.wait_ms} ms"
        yield "*.max_wait", f"{problem}; {_RELOAD_FIRST}"


def _mutable(old: EnvoySettings, _: EnvoySettings, requirements: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    mutable = re.compile("|".join(old.mutable or ()))
    if refused := [name for name in requirements.written if not mutable.fullmatch(name)]:
        about = "issuers.*.dpop" if refused == [PROOF_HEADER] else "token.forward"
        about = "identity.headers" if requirements.identity.intersection(refused) else about
        problem = (
            f"Envoy does not allow changes of {', '.join(refused)}, and answers 500 to requests that the sidecar allows"
        )
        yield about, f"{problem}; {_RELOAD_FIRST}"


def _merge_slashes(old: EnvoySettings, new: EnvoySettings, _: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    if old.merge_slashes and not new.merge_slashes:
        yield "rules.accept", f"Envoy merges // into /, and no rule receives a double_slash; {_RELOAD_FIRST}"


def _escaped_slashes(old: EnvoySettings, new: EnvoySettings, _: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    if old.escaped_slashes != new.escaped_slashes == "KEEP_UNCHANGED":
        yield "rules.accept", f"Envoy itself answers 400 to an encoded_slash; {_RELOAD_FIRST}"


def _underscores(old: EnvoySettings, new: EnvoySettings, _: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    if old.underscores != new.underscores == "ALLOW":
        yield "token.sources", f"Envoy itself answers 400 to every request with a header that has a _; {_RELOAD_FIRST}"


def _header_room(old: EnvoySettings, _: EnvoySettings, requirements: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    if old.max_headers_kb <= requirements.header_kb:
        yield "token.max_bytes", f"Envoy itself answers 431 to headers above {old.max_headers_kb} KiB; {_RELOAD_FIRST}"


def _tls(old: EnvoySettings, new: EnvoySettings, _: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    fails = f"every request is answered 503; {_RELOAD_TOGETHER}"
    if (old.tls is None) != (new.tls is None):
        words = ("TLS", "plaintext") if new.tls is None else ("plaintext", "TLS")
        yield "server.tls", f"Envoy uses {words[0]} and the sidecar {words[1]}, so that {fails}"
    elif old.tls is not None and new.tls is not None and old.tls.cert_file is None and new.tls.cert_file is not None:
        yield "server.tls.client_ca_file", f"Envoy presents no client certificate, so that {fails}"


def _receiver(old: EnvoySettings, new: EnvoySettings, _: EnvoyRequirements) -> Iterator[tuple[str, str]]:
    if old.receiver is not None and new.receiver is not None and old.receiver.address != new.receiver.address:
        consequence = "logout tokens and events get 503, and senders may not repeat them"
        yield "receivers.listen", f"Envoy passes them to {old.receiver.address}: {consequence}; {_RELOAD_TOGETHER}"


BREAKAGES: Final[Mapping[str, FindBreakage]] = {
    "endpoints": _endpoints,
    "timeout_ms": _timeout,
    "removed": _no_breakage,  # included in the mutable headers
    "mutable": _mutable,
    "merge_slashes": _merge_slashes,
    "escaped_slashes": _escaped_slashes,
    "underscores": _underscores,
    "max_headers_kb": _header_room,
    "max_requests": _no_breakage,
    "tls": _tls,
    "receiver": _receiver,
}
"""The check for each setting of Envoy that depends on the configuration."""
