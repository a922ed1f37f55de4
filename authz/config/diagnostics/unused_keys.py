"""Keys of a key set that verify no token of their issuer."""

from __future__ import annotations

from collections.abc import Iterator

from authz.config.issuer import Issuer
from authz.config.problems import quote
from authz.core.key import Key, fits_type
from authz.core.keys import KeySet


def describe_unused(keys: KeySet, issuer: Issuer) -> Iterator[str]:
    """Yield a message for each rejected or unused key of *keys*, without those for other purposes."""
    algorithms, configured = frozenset(issuer.algorithms), issuer.algorithms_configured
    unused = [(key.kid, why) for key in keys.keys if (why := why_unused(key, algorithms, configured=configured))]
    for kid, why in (*keys.rejected_signing_keys, *unused):
        yield f"the key {'without a kid' if kid is None else quote(kid)} is not used: {why}"


def why_unused(key: Key, algorithms: frozenset[str], *, configured: bool = True) -> str | None:
    """Return why *key* cannot verify tokens with any of *algorithms*; None if it can.

    *configured* tells whether the operator chose *algorithms*.
    """
    if any(key.supports(alg, algorithms, configured=configured) for alg in algorithms):
        return None
    if key.alg is not None:
        return f"its alg {key.alg} is not among the issuer's algorithms"
    kind = f"{key.kty} {key.crv}" if key.crv else key.kty
    fitting = sorted(alg for alg in algorithms if fits_type(key.kty, key.crv, alg, algorithms))
    if not fitting:
        return f"none of the issuer's algorithms is for a key of type {kind}"
    return f"it is too short for {' or '.join(fitting)}, the issuer's algorithms for a key of type {kind}"
