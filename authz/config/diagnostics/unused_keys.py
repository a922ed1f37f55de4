"""Valid keys that no token of their issuer can use."""

from __future__ import annotations

from authz.core.key import Key, fits_type


def why_unused(key: Key, algorithms: frozenset[str], *, configured: bool = True) -> str | None:
    """Return why *key* serves no token of an issuer that may use *algorithms*; None if it serves some.

    *configured* tells whether the operator chose them.
    """
    if any(key.supports(alg, algorithms, configured=configured) for alg in algorithms):
        return None
    if key.alg is not None:
        return f"its alg {key.alg} is not among the issuer's algorithms"
    kind = f"{key.kty} {key.crv}" if key.crv else key.kty
    fitting = sorted(alg for alg in algorithms if fits_type(key.kty, key.crv, alg, algorithms))
    if not fitting:
        return f"none of the issuer's algorithms is for a key of type {kind}"
    return f"it is too short for {' or '.join(fitting)}, what the issuer may use with a key of type {kind}"
