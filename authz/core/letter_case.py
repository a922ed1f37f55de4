"""Letter case of path segments: how a rule with `case_insensitive` compares them.

Rules of this file:
1. A rule that asks for a token takes in every spelling that some server may take for its path: too many cost nothing.
2. A rule that lets callers in without a token takes in ASCII letters only, which servers agree on: with more, it would
   open paths that are not its own.
"""

from __future__ import annotations


def fold_ascii(segment: str) -> str:
    """Return *segment* with ASCII letters in lower case."""
    return segment.lower() if segment.isascii() else "".join(c.lower() if c.isascii() else c for c in segment)


def fold_unicode(segment: str) -> str:
    """Return one text for all spellings of *segment* that differ in letter case to any server.

    Simple and full case folding (Unicode 5.18, CaseFolding.txt), and what servers join beyond: Caddy, Java, Python's
    `re.IGNORECASE` and JavaScript make `i` of U+0130 or U+0131, with a dot above (U+0307) or without.
    """
    if segment.isascii():
        return segment.lower()
    return segment.upper().casefold().replace("i\u0307", "i")
