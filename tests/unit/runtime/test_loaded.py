"""Proves authz.runtime.loaded: what one process has checked is the same in another one, or it is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from authz.config.build import build_snapshot
from authz.config.model import Config
from authz.config.problems import ConfigError
from authz.core.policy import AccessMode
from authz.runtime.checking import check, check_file
from authz.runtime.loaded import CheckFailedError, pack, unpack, unpickle
from tests.tools import ROOT
from tests.unit.runtime.describing import describe, describe_sections

SAMPLE: Final = ROOT / "tests/data/config.yaml"
MANY: Final = "version: 1\nissuers: {a: {issuer: 'https://a.test', audiences: [api]}}\nrules:\n" + "".join(
    f"  - {{name: r{number}, match: {{paths: [/{number}]}}}}\n" for number in range(1_000)
)


def test_a_process_without_pydantic_reads_the_same_configurations() -> None:
    """All values, defaults, what a section computes, and the rules, of the sample and of every recipe."""
    files = [SAMPLE, *sorted(ROOT.glob("deploy/recipes/*.yaml"))]
    here = [check_file(file) for file in files]
    lines = "\n".join(pack(loaded).hex() for loaded in here)
    argv = [sys.executable, "-m", "tests.unit.runtime.plain_reading"]
    there = subprocess.run(argv, input=lines, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    answer = json.loads(there.stdout)
    expected = [describe(loaded.config, build_snapshot(loaded.config)) for loaded in here]
    for file, one, other in zip(files, expected, answer["configs"], strict=True):
        assert json.loads(json.dumps(one)) == other, file
    assert answer["sections"] == describe_sections()
    assert answer["imported"] == []  # neither pydantic nor YAML


def test_what_follows_from_a_configuration_is_passed_too() -> None:
    """Warnings, insecure options, and what Envoy and the next start have to know."""
    loaded = check(MANY, file="authz.yaml")
    assert unpack(pack(loaded)) == loaded
    assert len(unpack(pack(loaded), rules=False).config.rules) == 0


def test_other_threads_run_while_many_rules_are_read() -> None:
    """After every few rules."""
    pauses: list[None] = []
    unpack(pack(check(MANY, file="authz.yaml")), pause=lambda: pauses.append(None))
    assert len(pauses) > 50


def test_problems_are_passed_as_they_are() -> None:
    """With their lines, as if the file had been checked here."""
    with pytest.raises(ConfigError) as here:
        check("version: 1\nrules: []\n", file="authz.yaml")
    with pytest.raises(ConfigError) as there:
        unpack(pack(here.value))
    assert str(there.value) == str(here.value)


def test_an_error_of_ours_is_passed_with_its_traceback() -> None:
    """It is not valid, and no problem of the file either."""
    with pytest.raises(CheckFailedError, match="an error of ours: KeyError") as found:
        unpack(pack(KeyError("rules")))
    assert "KeyError: 'rules'" in found.value.traceback


@pytest.mark.parametrize("end", [0, 1, 3, 100, -1], ids=str)
def test_an_answer_that_is_cut_is_refused(end: int) -> None:
    """Wherever it ends, also between two groups of rules: rules must not be lost."""
    packed = pack(check(MANY, file="authz.yaml"))
    ends = [end] if end >= 0 else [len(packed) - 1, packed.rindex(b"\x80\x05") - 4]
    for place in ends:
        with pytest.raises(CheckFailedError, match="complete"):
            unpack(packed[:place])


class _Stranger:
    """An object whose pickle would call a function."""

    def __init__(self, call: Callable[..., Any], *arguments: object) -> None:
        self._call, self._arguments = call, arguments

    def __reduce__(self) -> tuple[object, ...]:
        return self._call, self._arguments


def test_what_is_not_ours_is_not_called(tmp_path: Path) -> None:
    """A pickle that names another function is refused before that is called."""
    file = tmp_path / "made"
    for stranger in (_Stranger(Path.touch, file), _Stranger(eval, f"open({str(file)!r}, 'w')")):
        pickled = pickle.dumps(stranger)
        with pytest.raises(CheckFailedError, match="not expected"):
            unpack(len(pickled).to_bytes(4, "big") + pickled)
    assert not file.exists()


class _Named:
    """An object whose pickle calls what is called *name* in *module*."""

    def __init__(self, module: str, name: str, *arguments: object) -> None:
        self.module, self.name, self.arguments = module, name, arguments

    def pickled(self) -> bytes:
        return b"c%b\n%b\n" % (self.module.encode(), self.name.encode()) + pickle.dumps(self.arguments)[:-1] + b"R."


def test_what_is_ours_and_no_part_of_a_configuration_is_not_called() -> None:
    """Neither what starts a process, nor what a module of a configuration has imported for itself."""
    for stranger in (
        _Named("authz.runtime.process", "start_child", ["/bin/false"], 1),
        _Named("authz.runtime.process", "os"),
        _Named("authz.config.text", "Path", "/etc/hostname"),
        _Named("authz.config.section", "intern", "text"),
        _Named("authz.core.pdp", "quote", "a b"),
    ):
        with pytest.raises(CheckFailedError, match=f"{stranger.module}.{stranger.name} is not expected"):
            unpickle(stranger.pickled())


def test_an_answer_of_another_kind_is_refused() -> None:
    """Also if it is one of our own objects."""
    pickled = pickle.dumps(check(MANY, file="authz.yaml"))
    with pytest.raises(CheckFailedError):
        unpack(len(pickled).to_bytes(4, "big") + pickled)


def test_members_of_enumerations_are_read_as_python_3_11_2_writes_them() -> None:
    """It writes a call of `getattr`: nothing else is found by it."""
    assert unpickle(pickle.dumps(_Stranger(getattr, AccessMode, "DENY"))) is AccessMode.DENY
    for owner, name in ((AccessMode, "mro"), (Config, "model_copy"), (AccessMode.DENY, "__class__")):
        with pytest.raises(CheckFailedError):
            unpickle(pickle.dumps(_Stranger(getattr, owner, name)))
