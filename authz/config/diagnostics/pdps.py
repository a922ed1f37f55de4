"""Likely mistakes in what policy decision points (PDPs) are asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from authz.config.model import Config
from authz.config.pdp import Pdp
from authz.config.problems import Problem
from authz.config.rules import Rule
from authz.core.pdp import IdEncoding, PdpKind
from authz.core.request import AmbiguousEncoding
from authz.core.template import is_ambiguous

_ENCODED: Final = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}"  # in ids that are percent-encoded, values have none of these
_ENCODED_AS_BASE64URL: Final = f"{_ENCODED}.~"


def find_pdp_mistakes(config: Config) -> Iterator[Problem]:
    """Report PDPs that no rule asks, URLs that are unusual for their kind, and ids that two resources can have."""
    required = {
        rule.require.pdp.name for rule in config.rules if rule.require is not None and rule.require.pdp is not None
    }
    for name, pdp in config.pdps.items():
        if name not in required:
            yield Problem(path=("pdps", name), message="no rule asks it", hint="require: {pdp: NAME} in a rule")
        yield from _find_unusual_url(name, pdp)
    for index, rule in enumerate(config.rules):
        yield from _find_ambiguous_ids(index, rule, config)


def _find_unusual_url(name: str, pdp: Pdp) -> Iterator[Problem]:
    path = urlsplit(pdp.url).path.rstrip("/")
    if pdp.kind is PdpKind.OPA and "/v1/data/" not in path:
        message = 'is not below /v1/data/, where OPA answers {"result": ...}'
        yield Problem(path=("pdps", name, "url"), message=message)
    elif pdp.kind is PdpKind.AUTHZEN and not path.endswith("/evaluation"):
        message = "does not end with /evaluation, as the endpoint of AuthZEN does"
        yield Problem(path=("pdps", name, "url"), message=message, hint="is it complete?")


def _find_ambiguous_ids(index: int, rule: Rule, config: Config) -> Iterator[Problem]:
    question = rule.require.pdp if rule.require is not None else None
    if question is None:
        return
    encoding = config.pdps[question.name].id_encoding
    never = {IdEncoding.NONE: "", IdEncoding.PERCENT: _ENCODED, IdEncoding.BASE64URL: _ENCODED_AS_BASE64URL}[encoding]
    slash = "" if AmbiguousEncoding.ENCODED_SLASH in (rule.accept or ()) else "/"
    for key, entity in (("subject", question.subject.entity), ("resource", question.resource.entity)):
        if is_ambiguous(entity.id, never_in_values=never, never_in_params=slash):
            message = (
                "two different requests can have the same id: between two values is nothing that neither can contain"
            )
            hint = "set id_encoding, and put a character such as : or / between them"
            yield Problem(path=("rules", index, "require", "pdp", key, "id"), message=message, hint=hint, widens=True)
