"""Proves deploy/compile.py: what is compiled is the source, and whether it is compiled is a choice that is said."""

from __future__ import annotations

import dataclasses
import inspect
import os
import runpy
import types
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any, Final

import pytest

from authz.core.claims import ClaimPath
from authz.core.implementation import IMPLEMENTATION
from authz.core.needs import Need
from tests.tools import ROOT

PROGRAM: Final = runpy.run_path(str(ROOT / "deploy/compile.py"))
MODULES: Final = list(PROGRAM["find_modules"](ROOT))
COMPILED: Final = os.environ.get(PROGRAM["CHOICE"]) == "1"  # as `make compiled` says


def run(source: str, path: str) -> dict[str, Any]:
    """Run a module, and return its names."""
    module = types.ModuleType(path.removesuffix(".py").replace("/", "."))
    exec(compile(source, path, "exec"), vars(module))  # noqa: S102 - our own source
    return vars(module)


def expand(source: str, path: str) -> str:
    """Return what is compiled, so that Python can run it: assignments of compiled code need no leave of the class."""
    expanded: str = PROGRAM["expand"](source, path)
    return expanded.replace(', eq=False, **{"frozen": True}', ", eq=False").replace(
        '**{"frozen": True}', "unsafe_hash=True"
    )


@pytest.mark.parametrize("path", MODULES)
def test_the_form_that_should_run_does(path: str) -> None:
    """Each of the modules is an extension module in `make compiled`, and its source everywhere else."""
    file = import_module(path.removesuffix(".py").replace("/", ".")).__file__ or ""
    assert file.endswith(tuple(EXTENSION_SUFFIXES) if COMPILED else ".py")
    assert ("compiled" if COMPILED else "pure") == IMPLEMENTATION


@pytest.mark.parametrize("path", MODULES)
def test_classes_are_made_as_dataclass_makes_them(path: str) -> None:
    """The `__init__` that is written takes what that of `dataclass` takes, and the class is one in all else."""
    source = (ROOT / path).read_text(encoding="utf-8")
    ours, theirs = run(expand(source, path), path), run(source, path)
    for name, written in classes(ours).items():
        model = theirs[name]
        assert [shape(each) for each in parameters(written)] == [shape(each) for each in parameters(model)]
        assert written.__match_args__ == model.__match_args__
        assert [kind_of(written, name) for name in _COMPARISONS] == [kind_of(model, name) for name in _COMPARISONS]
        assert [describe(each) for each in dataclasses.fields(written)] == [
            describe(each) for each in dataclasses.fields(model)
        ]


def classes(names: dict[str, Any]) -> dict[str, Any]:
    """The dataclasses that a module defines."""
    return {
        name: each
        for name, each in names.items()
        if isinstance(each, type) and dataclasses.is_dataclass(each) and each.__module__ == names["__name__"]
    }


def parameters(kind: Any) -> list[inspect.Parameter]:  # noqa: ANN401 - any dataclass
    """What the class is made of."""
    return list(inspect.signature(kind.__init__).parameters.values())


_COMPARISONS: Final = ("__eq__", "__hash__", "__lt__")


def kind_of(kind: type, name: str) -> str:
    """Whether the class has the method, has what every object has, or has none."""
    method = getattr(kind, name)
    return "none" if method is None else "every object's" if method is getattr(object, name) else "its own"


def shape(parameter: inspect.Parameter) -> tuple[str, object, bool]:
    """Name, kind, and whether it may be left out."""
    return parameter.name, parameter.kind, parameter.default is inspect.Parameter.empty


def describe(field: dataclasses.Field[Any]) -> tuple[object, ...]:
    """What `dataclasses` knows of a field."""
    return field.name, field.init, field.repr, field.compare, field.hash, field.kw_only


def test_no_line_moves() -> None:
    """A traceback names the same line in both forms."""
    for path in MODULES:
        source = (ROOT / path).read_text(encoding="utf-8").splitlines()
        lines = PROGRAM["expand"]("\n".join(source) + "\n", path).splitlines()
        changed = [number for number, line in enumerate(source) if line != lines[number]]
        assert len(lines) == len(source)
        for number in changed:
            line = source[number]
            assert not line or line.startswith(("@", "from authz.core.record")) or ": object" in line


VALUE: Final = '''
from dataclasses import dataclass, field

@dataclass(frozen=True, slots=True)
class Value:
    """A value."""

    text: str
    parts: list[str] = field(default_factory=list)
    note: str = field(default="none", repr=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", len(self.text))
'''


def test_a_class_keeps_its_defaults() -> None:
    """Defaults, what a factory makes for each, and what is set after all others."""
    names = run(expand(VALUE, "values.py"), "authz/core/needs.py")
    value, other = names["Value"]("four"), names["Value"]("four", ["a"], "noted")
    assert (value.text, value.parts, value.note, value.size) == ("four", [], "none", 4)
    assert (other.parts, other.note) == (["a"], "noted")
    assert names["Value"]("x").parts is not names["Value"]("x").parts


def test_a_frozen_class_is_frozen_in_both_forms() -> None:
    """A value that others share cannot be changed."""
    path = ClaimPath.parse("groups")
    for name in (each.name for each in dataclasses.fields(path)):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(path, name, "other")


def test_a_class_compares_hashes_and_looks_the_same_in_both_forms() -> None:
    """By the fields that its declaration names."""
    need = Need("kind", "issuer", "asked", payload="secret")
    assert need == dataclasses.replace(need, payload="other")
    assert hash(need) == hash(need.without_payload)
    assert need != dataclasses.replace(need, source="other")
    assert repr(need).startswith("Need(kind='kind', source='issuer', unanswered=")


def test_a_class_without_room_is_refused() -> None:
    """The build fails where the method would have to move lines, and names the place."""
    with pytest.raises(ValueError, match=r"values\.py:5: no empty line after the docstring of Value"):
        PROGRAM["expand"](VALUE.replace('"""A value."""\n', '"""A value."""'), "values.py")


@pytest.mark.parametrize(("choice", "version"), [(None, "standard"), ("0", "standard"), ("1", "editable")])
def test_nothing_is_compiled_unless_it_is_chosen(choice: str | None, version: str, tmp_path: Path) -> None:
    """A wheel is pure Python unless the builder says otherwise; an editable installation always is."""
    assert built(choice, version, tmp_path) == {"force_include": {}}


def test_a_choice_that_is_none_is_refused(tmp_path: Path) -> None:
    """Neither yes nor no: the build stops and says what there is to choose."""
    with pytest.raises(SystemExit, match="AUTHZ_COMPILED is 1 for compiled modules, or 0: 'yes' is neither"):
        built("yes", "standard", tmp_path)


def built(choice: str | None, version: str, folder: Path) -> dict[str, Any]:
    """What the hook adds to a wheel."""
    name = PROGRAM["CHOICE"]
    before = os.environ.pop(name, None)
    try:
        if choice is not None:
            os.environ[name] = choice
        data: dict[str, Any] = {"force_include": {}}
        hook = PROGRAM["CompileHook"](str(folder), {}, None, None, str(folder), "wheel")
        hook.initialize(version, data)
        return data
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before
