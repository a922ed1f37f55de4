"""Case folding of path segments, for rules with `case_insensitive`.

Rules of this file:
1. A rule that requires a token matches every spelling that any known server may treat as its path: matching too many
   paths is safe.
2. A rule that allows callers without a token folds ASCII letters only, on which servers agree: folding more could make
   other paths public.
"""

from __future__ import annotations


def fold_ascii(segment: str) -> str:
    """Return *segment* with ASCII letters in lower case."""
    return segment.lower() if segment.isascii() else "".join(c.lower() if c.isascii() else c for c in segment)


def fold_unicode(segment: str) -> str:
    """Return the same text for all spellings of *segment* that any known server treats as equal.

    This is simple and full case folding (Unicode 5.18, CaseFolding.txt). In addition, Caddy, Java, Python's
    `re.IGNORECASE` and JavaScript map U+0130 or U+0131 to `i`, with or without a dot above (U+0307).
    """
    if segment.isascii():
        return segment.lower()
    return segment.upper().casefold().replace("i\u0307", "i")
