"""A trie of path templates by segment: finds the templates that match a path or cover another template."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

Bucket = TypeVar("Bucket")


class _Node(Generic[Bucket]):
    """One node of the index: the next segments, and the buckets of the templates that end here."""

    __slots__ = ("exact", "literals", "parameter", "prefix")

    def __init__(self) -> None:
        self.literals: dict[str | None, _Node[Bucket]] = {}
        self.parameter: _Node[Bucket] | None = None
        self.exact: Bucket | None = None
        self.prefix: Bucket | None = None


class PathIndex(Generic[Bucket]):
    """A bucket for each template. A search visits at most the nodes that the templates created, whatever the path."""

    __slots__ = ("_new_bucket", "_root")

    def __init__(self, new_bucket: Callable[[], Bucket]) -> None:
        self._new_bucket: Final = new_bucket
        self._root: Final[_Node[Bucket]] = _Node()

    def bucket(self, segments: Iterable[str | None], *, prefix: bool) -> Bucket:
        """Return the bucket of one template, and create it if necessary.

        A segment that is None is a parameter; *prefix* is for a template that ends in `/**`.
        """
        node = self._root
        for segment in segments:
            if segment is None:
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literals.setdefault(segment, _Node())
        if prefix:
            if node.prefix is None:
                node.prefix = self._new_bucket()
            return node.prefix
        if node.exact is None:
            node.exact = self._new_bucket()
        return node.exact

    def covering(self, segments: Iterable[str | None], *, prefix: bool = False) -> list[Bucket]:
        """Return the buckets of all templates that match everything that the given template matches.

        A path is the template that matches only itself. No parameter matches an empty segment.
        """
        buckets: list[Bucket] = []
        level = [self._root]
        for segment in segments:
            following: list[_Node[Bucket]] = []
            for node in level:
                if node.prefix is not None:
                    buckets.append(node.prefix)
                if (literal := node.literals.get(segment)) is not None:
                    following.append(literal)
                if node.parameter is not None and segment != "":
                    following.append(node.parameter)
            if not following:
                return buckets
            level = following
        for node in level:
            if node.prefix is not None:
                buckets.append(node.prefix)
            if node.exact is not None and not prefix:
                buckets.append(node.exact)
        return buckets
