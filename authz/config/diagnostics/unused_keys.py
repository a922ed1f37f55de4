"""Keys that are fit for use, and that no token of their issuer can mean."""

from __future__ import annotations

from authz.core.algorithms import ALGORITHMS
from authz.core.keys import Key


def why_unused(key: Key, algorithms: frozenset[str]) -> str | None:
    """Return why *key* serves no token of an issuer that may use *algorithms*; None where it serves some."""
    if any(key.supports(alg, algorithms) for alg in algorithms):
        return None
    if key.alg is not None:
        return f"its alg {key.alg} is not among the issuer's algorithms"
    kind = f"{key.kty} {key.crv}" if key.crv else key.kty
    fitting = sorted(alg for alg in algorithms if (ALGORITHMS[alg].kty, ALGORITHMS[alg].crv) == (key.kty, key.crv))
    if not fitting:
        return f"none of the issuer's algorithms is for a key of type {kind}"
    if len(fitting) == 1:
        return f"it is too short for {fitting[0]}, the issuer's only algorithm for a key of type {kind}"
    return f"it names no alg, and {', '.join(fitting)} could be meant: allow one of them, or have the issuer name it"
