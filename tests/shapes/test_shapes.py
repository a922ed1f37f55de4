"""Key sets as the world publishes them: each is read by what it means, and says so in a note, or is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from authz.core.certificate import X5C_MISMATCH_ALLOWED
from tests.fixtures import ABSENT, changed, signer
from tests.shapes.generated import GENERATED, RSA
from tests.shapes.judge import judge
from tests.shapes.recorded import RECORDED
from tests.shapes.shape import Shape, jwk_set, sign

SHAPES = {f"recorded-{shape.name}": shape for shape in RECORDED} | {shape.name: shape for shape in GENERATED}


def test_there_are_as_many_as_were_meant() -> None:
    """No name hides another, and none of the recorded ones is missing."""
    assert len(SHAPES) == len(RECORDED) + len(GENERATED)
    assert len(RECORDED) == 37


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shape(shape: Shape) -> None:
    """The token passes, with the notes that its key leaves; or it does not, and the operator sees why."""
    verdict = judge(shape)
    assert (verdict.allowed, shape.refused in verdict.detail) == (not shape.refused, True), verdict.detail
    if verdict.allowed:
        assert verdict.keys is not None
        assert tuple(note for key in verdict.keys.keys for note in key.notes) == shape.notes


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_another_signature_opens_none(shape: Shape) -> None:
    """However its set is written, no issuer's key signs for a stranger: one octet of the signature decides."""
    head, _, signature = shape.token.rpartition(".")
    broken = ("B" if signature[40] == "A" else "A").join((signature[:40], signature[41:]))
    assert not judge(replace(shape, token=f"{head}.{broken}")).allowed


@pytest.mark.parametrize("name", ["recorded-x5c-of-another-key", "x5c-another", "x5c-another-in-text"])
def test_the_way_out_of_a_certificate_of_another_key(name: str) -> None:
    """insecure.x5c_mismatch takes the key, and says so at the key."""
    verdict = judge(SHAPES[name], x5c_mismatch=True)
    assert verdict.allowed
    assert verdict.keys is not None
    assert [key.notes for key in verdict.keys.keys] == [(X5C_MISMATCH_ALLOWED,)]


@pytest.mark.parametrize("name", ["use-enc", "weak", "no-alg-PS256", "x5c-another", "kid-number", "private-rsa"])
def test_a_kid_that_cannot_serve_asks_for_no_other_set(name: str) -> None:
    """If the set has the key that a token names, a refresh brings nothing: the refusal is final."""
    shape = SHAPES.get(name) or SHAPES[f"recorded-{name}"]
    entries = [*json.loads(shape.document)["keys"], signer("ES384", "beside").public()]
    verdict = judge(replace(shape, document=json.dumps({"keys": entries}).encode()))
    assert (verdict.allowed, verdict.looks_for_keys) == (False, False)
    assert shape.refused in verdict.detail


def test_a_key_that_is_missing_is_looked_for() -> None:
    """A token that names a key which is not there asks for it, also where keys without a name were tried."""
    by_another: dict[str, tuple[dict[str, object], dict[str, object]]] = {
        "kid": (RSA.public(), {"kid": "new"}),
        "kid, and the key has none": (changed(RSA.public(), {"kid": ABSENT}), {"kid": "new"}),
        "x5t": (changed(RSA.public(), {"x5t": "old"}), {"kid": ABSENT, "x5t": "new"}),
    }
    for name, (jwk, header) in by_another.items():
        shape = Shape(name=name, document=jwk_set(jwk), token=sign(signer("RS256", "new"), **header))
        assert judge(shape).looks_for_keys, name
    nameless = Shape(name="x", document=jwk_set(RSA.public()), token=sign(signer("RS256", "new"), kid=ABSENT))
    assert not judge(nameless).looks_for_keys
