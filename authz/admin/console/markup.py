"""Write HTML so that no text becomes markup: the only way to make markup is `element`, which escapes what it is given.

Rules of this file:
1. A `str` is text, whatever its source; only `Markup`, which `element` and `join` return, is taken as it is.
2. Names of elements and attributes are written in our code, and values of attributes are always quoted.
3. Characters that could mislead a reader, such as those that turn the direction of text, are shown by their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from typing import Final

Child = object
"""A Markup, a text, a number, None (nothing), or an iterable of these."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


# Controls but tab and newline, DEL to 0x9f, and the marks and overrides of bidirectional text.
_MISLEADING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
# The same, and what HTML gives a meaning: a text without any of them, which most are, is HTML as it is.
_ESCAPED: Final = re.compile(f"[<>&\"'{_MISLEADING.pattern[1:]}")
_VOID: Final = frozenset({"br", "input", "link", "meta"})


def text(value: object) -> Markup:
    """Return *value* as text in HTML."""
    plain = str(value)
    if _ESCAPED.search(plain) is None:
        return Markup(plain)
    return Markup(escape(_MISLEADING.sub(_show_number, plain), quote=True))


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """Return the element *name* with *children*.

    An attribute is written with hyphens for underscores (`class_` is class). None or False leaves it out; True writes
    its name alone.
    """
    rendered = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    start = f"<{name}{rendered}>"
    return Markup(start if name in _VOID else f"{start}{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Return *children* one after the other."""
    return Markup("".join(map(_child, children)))


def _child(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    if isinstance(child, str) or not isinstance(child, Iterable):
        return text(child)
    return join(child)


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(value)}"'


def _show_number(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
