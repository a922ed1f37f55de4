"""Ask every other system that a configuration names, for `authz check-config --fetch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from authz.config.model import Config
from authz.tooling.introspection_probe import probe_introspection
from authz.tooling.key_probe import probe_keys
from authz.tooling.pdp_probe import probe_pdps
from authz.tooling.revocation_list_probe import probe_lists
from authz.tooling.risk_probe import probe_risk
from authz.tooling.shared_state_probe import probe_shared_state
from authz.tooling.signing_probe import probe_signing
from authz.tooling.status_list_probe import probe_status_lists
from authz.tooling.transmitter_probe import probe_transmitters


class Probe(Protocol):
    """The result of probing one system."""

    @property
    def ok(self) -> bool:
        """Whether it does what it is needed for."""

    def lines(self) -> Iterator[str]:
        """Yield it as lines."""

    def document(self) -> Mapping[str, Any]:
        """Return it as JSON data."""


@dataclass(frozen=True, slots=True)
class ProbeGroup:
    """The results of probing the systems of one kind; *name* is their member in the JSON output.

    *failure* is a sentence with `{failed}` and `{total}`, the numbers of systems. *is_one*: there is at most one.
    """

    name: str
    probes: Sequence[Probe]
    failure: str
    is_one: bool = False

    def document(self) -> object:
        """Return it as JSON data."""
        documents = [probe.document() for probe in self.probes]
        return documents[0] if self.is_one else documents

    def failures(self) -> Iterator[str]:
        """Yield a sentence if some fail."""
        if failed := sum(not probe.ok for probe in self.probes):
            yield self.failure.format(failed=failed, total=len(self.probes))


def probe_everything(config: Config) -> Iterator[ProbeGroup]:
    """Yield what each kind of system answers; the keys of issuers come first, also if there are none."""
    fetched = list(probe_keys(config))
    yield ProbeGroup("fetched", fetched, "{failed} of {total} issuers have no usable keys")
    keys = {probed.issuer: probed.keys for probed in fetched}
    risk = probe_risk(config)
    state = probe_shared_state(config.shared_state) if config.shared_state is not None else None
    groups = (
        ProbeGroup(
            "introspection",
            list(probe_introspection(config)),
            "{failed} of {total} issuers cannot be asked about tokens",
        ),
        ProbeGroup("pdps", list(probe_pdps(config)), "{failed} of {total} PDPs do not decide"),
        ProbeGroup("risk", _listed(risk), "the risk engine does not answer what the rules read", is_one=True),
        ProbeGroup("upstream_token", list(probe_signing(config)), "no token for the upstream by {failed} of {total}"),
        ProbeGroup(
            "revocations",
            list(probe_lists(config)),
            "{failed} of {total} lists of revocations cannot be used as a whole",
        ),
        ProbeGroup(
            "status_lists", list(probe_status_lists(config, keys)), "{failed} of {total} status lists cannot be used"
        ),
        ProbeGroup(
            "transmitters",
            list(probe_transmitters(config)),
            "{failed} of {total} transmitters of security events cannot be used",
        ),
        ProbeGroup("shared_state", _listed(state), "the shared state cannot be used", is_one=True),
    )
    yield from (group for group in groups if group.probes)


def _listed(probe: Probe | None) -> list[Probe]:
    return [] if probe is None else [probe]
