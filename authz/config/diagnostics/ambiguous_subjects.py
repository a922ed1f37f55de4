"""Uses of `sub` without its issuer, if several issuers may give the same `sub` to different users."""

from __future__ import annotations

from collections.abc import Iterator

from authz.config.model import Config
from authz.config.pdp import PdpQuestion
from authz.config.problems import KeyPath, Problem


def find_ambiguous_subjects(config: Config) -> Iterator[Problem]:
    """Report uses of `sub` without the issuer: two issuers may give the same `sub` to different users."""
    several = {name for name, issuer in config.issuers.items() if len(issuer.accepted_issuers) > 1}
    if len(config.issuers) < 2 and not several:
        return
    message = "sub is unique within one issuer only, and there are several"
    headers = config.identity.headers
    if not any(header.claim == "iss" or header.payload is not None for header in headers.values()):
        for name, header in headers.items():
            if header.claim == "sub":
                path: KeyPath = ("identity", "headers", name)
                yield Problem(path=path, message=message, hint="send iss in another header", widens=True)
    token = config.identity.minted
    if token is not None and not any(claim.claim == "iss" for claim in token.claims.values()):
        path = ("identity", "token", "claims")
        yield Problem(path=path, message=message, hint="copy iss into a claim, such as caller_iss: iss", widens=True)
    for index, rule in enumerate(config.rules):
        require = rule.require
        issuers = require.issuers or () if require is not None else ()
        if require is None or (len(issuers) == 1 and several.isdisjoint(issuers)):
            continue
        for key in ("claims", "all_of"):
            if "sub" in (getattr(require, key) or ()):
                path = ("rules", index, "require", key, "sub")
                hint = "name the issuer under issuers"
                yield Problem(path=path, message=message, hint=hint, widens=True)
        if require.when and "claims.sub" in require.when and "claims.iss" not in require.when:
            path = ("rules", index, "require", "when")
            hint = "name the issuer under issuers, or compare claims.iss too"
            yield Problem(path=path, message=message, hint=hint, widens=True)
        if require.pdp is not None and _reads_sub_alone(require.pdp):
            path = ("rules", index, "require", "pdp", "subject", "id")
            hint = "name the issuer under issuers, or send claims.iss too, such as in subject.properties"
            yield Problem(path=path, message=message, hint=hint, widens=True)


def _reads_sub_alone(question: PdpQuestion) -> bool:
    """Return whether a question names a subject, and not its issuer."""
    read = {reference.text for reference in question.references()}
    return any("claims.sub" in text for text in read) and not any("claims.iss" in text for text in read)
