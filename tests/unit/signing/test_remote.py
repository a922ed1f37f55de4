"""Proves that what a caller's token causes is no failure of the device or service that signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from authz.core.minting import MINTED
from authz.core.needs import Need
from authz.core.signing_request import write_signing_request, write_signing_terms
from authz.facts.source import SourceError
from authz.signing.minter import Minter, remote_source
from authz.signing.port import Failure, SigningUnavailable


class _Refusing:
    """A signer that always fails in the same way."""

    algorithm = "EdDSA"
    kid = "k"
    problem = ""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def public_jwk(self) -> Mapping[str, object]:
        return {}

    def sign(self, message: bytes) -> bytes:
        raise SigningUnavailable("no", self._failure)

    def close(self) -> None:
        """Hold nothing."""


TERMS: Final = write_signing_terms(algorithm="EdDSA", token_type="JWT", kid="k", lifetime=60.0, reuse_for=60.0)


def order(until: int | None = None) -> Need:
    """Write what is to be signed, for a caller whose token ends then."""
    return Need(MINTED, "signing", "digest", payload=write_signing_request(TERMS, '{"aud":"x"}', until))


@pytest.mark.parametrize("failure", Failure)
def test_only_failures_of_the_source_count(failure: Failure) -> None:
    """A claim that makes the token too long for the service must not have it left alone for everyone."""
    with pytest.raises(SourceError) as caught:
        remote_source(Minter(lambda: 1000.0), _Refusing(failure))(order())
    assert (caught.value.result, caught.value.counts) == (failure.value, failure is not Failure.REQUEST)


def test_a_caller_whose_token_ends_meanwhile() -> None:
    """It had no time left when its turn came: nothing is wrong with the service."""
    with pytest.raises(SourceError, match="has ended meanwhile") as caught:
        remote_source(Minter(lambda: 1000.0), _Refusing(Failure.FAILED))(order(until=1000))
    assert caught.value.counts is False
