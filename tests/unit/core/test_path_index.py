"""Proves authz.core.path_index: a template is found for what it covers, and for nothing else."""

from __future__ import annotations

from itertools import product
from typing import Final

import pytest

from authz.core.path_index import PathIndex
from authz.core.policy import PathTemplate

TEMPLATES: Final = ("/", "/**", "/a", "/a/**", "/{x}", "/{x}/**", "/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}", "/a/b/**")
PATHS: Final = [segments for length in range(4) for segments in product("abc", repeat=length)]


def covers(wide: PathTemplate, narrow: PathTemplate) -> bool:
    """Tell by trying all small paths whether *wide* matches whatever *narrow* matches."""
    return all(matches(wide, path) for path in PATHS if matches(narrow, path))


def matches(template: PathTemplate, path: tuple[str, ...]) -> bool:
    """Tell whether *template* matches *path*, from the definition."""
    begun = all(own in {None, segment} for own, segment in zip(template.segments, path, strict=False))
    long_enough = len(path) >= len(template.segments) if template.prefix else len(path) == len(template.segments)
    return begun and long_enough


@pytest.fixture
def index() -> PathIndex[list[str]]:
    """Hold each template by its text."""
    made: PathIndex[list[str]] = PathIndex(list)
    for template in map(PathTemplate.parse, TEMPLATES):
        made.bucket(template.segments, prefix=template.prefix).append(template.text)
    return made


@pytest.mark.parametrize("path", PATHS, ids=lambda path: "/" + "/".join(path))
def test_a_path_is_covered_by_the_templates_that_match_it(index: PathIndex[list[str]], path: tuple[str, ...]) -> None:
    """The walk finds what the definition says, once each."""
    found = [text for bucket in index.covering(path) for text in bucket]
    assert sorted(found) == sorted(text for text in TEMPLATES if matches(PathTemplate.parse(text), path))


@pytest.mark.parametrize("text", TEMPLATES)
def test_a_template_is_covered_by_those_that_match_all_of_it(index: PathIndex[list[str]], text: str) -> None:
    """A parameter is not covered by a name, and a tree not by one of its paths."""
    template = PathTemplate.parse(text)
    found = {text for bucket in index.covering(template.segments, prefix=template.prefix) for text in bucket}
    assert found == {wide for wide in TEMPLATES if covers(PathTemplate.parse(wide), template)}


def test_no_parameter_matches_an_empty_segment(index: PathIndex[list[str]]) -> None:
    """`//` is in a path only if a rule accepts that, and stands for no value even then."""
    assert index.covering(("", "")) == [["/**"]]


def test_a_template_has_one_bucket() -> None:
    """What is asked for again is the same."""
    index: PathIndex[list[str]] = PathIndex(list)
    for prefix in (False, True):
        assert index.bucket(("a", None), prefix=prefix) is index.bucket(("a", None), prefix=prefix)
    assert index.bucket(("a", None), prefix=True) is not index.bucket(("a", None), prefix=False)
