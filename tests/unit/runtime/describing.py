"""A configuration, and the decisions that it leads to, as text: to compare two processes."""

from __future__ import annotations

import re
from typing import Final

from authz.config.model import Config
from authz.config.section import Section
from authz.core.snapshot import Snapshot

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+")


def describe_sections() -> dict[str, dict[str, str]]:
    """Describe the keys of every section, and their defaults."""
    found, todo = {}, [*Section.__subclasses__()]
    while todo:
        section = todo.pop()
        todo += section.__subclasses__()
        fields = section.model_fields if hasattr(section, "model_fields") else vars(section)["_fields"]
        found[section.__qualname__] = {name: repr(_default(section, name)) for name in fields}
    return found


def _default(section: type[Section], name: str) -> object:
    """Return a default; for pydantic it is a property of the field, without it one of the class."""
    if hasattr(section, "model_fields"):
        field = section.model_fields[name]
        return "none" if field.is_required() else field.default
    return getattr(section, name, "none")


def describe(config: Config, snapshot: Snapshot) -> dict[str, object]:
    """Describe all values of *config*, and of *snapshot* all but keys and functions."""
    built = (
        *(snapshot.policy.rules, snapshot.identity, snapshot.token, snapshot.responses, snapshot.shadow_all),
        *(snapshot.opaque, snapshot.clients, snapshot.risk, snapshot.minting, snapshot.exchange),
    )
    issuers = [
        (iss, issuer.name, sorted(issuer.algorithms), issuer.algorithms_configured, issuer.introspection)
        for iss, issuer in snapshot.issuers.items()
    ]
    return {
        "values": config.model_dump(mode="json"),
        "without absent ones": config.model_dump(mode="json", exclude={"rules"}, exclude_none=True),
        "given": sorted(config.model_fields_set),
        "digest": config.digest,
        "properties": [
            *(repr((issuer.accepted_issuers, issuer.key_sources)) for issuer in config.issuers.values()),
            repr(sorted(config.claim_aliases)),
            repr((config.identity.minted is None, config.identity.exchange is None, config.clients.proxies)),
        ],
        "built": [_sorted(each) for each in (*built, issuers)],
    }


def _sorted(value: object) -> str:
    """Return a text without addresses in memory and the order of sets, which differ between processes."""
    return "".join(sorted(_ADDRESS.sub("", repr(value))))
