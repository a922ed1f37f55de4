"""Which requests two lists of rules decide differently.

Rules of this file:
1. Texts are not compared: requests are generated, and both policies select their rule, by the code that serves.
2. If a rule is in both lists in the same order, its precedence over the others is unchanged. So a request that is
   decided differently matches at least one rule that is new, removed, changed or moved.
3. Of all requests that two rules match, the most general is tried: segments, hosts and methods that no rule contains. A
   rule that matches it matches all the others, so if neither rule decides it, neither decides any of them. Each method
   that both name, and each depth below a `/**`, is tried separately. If case is ignored, the letters are those that the
   fewest rules fold.
4. Two rules are compared part by part (core/strictness.py). If that cannot be decided, as with two conditions, the
   effect is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import product
from typing import Final

from authz.core.letter_case import fold_ascii, fold_unicode
from authz.core.policy import AccessMode, HostPattern, Match, PathTemplate, Policy, Rule
from authz.core.reasons import Rejected
from authz.core.request import Path, Target
from authz.core.strictness import Strictness, access_rank, combine, compare_accepted
from authz.core.strictness import compare_rules as compare_strictness
from authz.tooling.compare.effects import Change, Effect
from authz.tooling.describe import describe_rule

MAX_REQUESTS: Final = 300_000  # generated for one comparison

_ANY: Final = "{any}"  # no literal of a rule contains a brace
_ANY_HOST: Final = "any-host"
_ANY_METHOD: Final = "any method"


def compare_rules(old: Policy, new: Policy, *, max_requests: int = MAX_REQUESTS) -> Iterator[Change]:
    """Yield a change for each pair of rules between which requests moved, and for each other rule that differs."""
    removed, added = _differing(old.rules, new.rules)
    moved: dict[tuple[str, str], list[_Sample]] = {}
    complete = True
    for tried, generated in enumerate(_requests(removed, new.rules, added, old.rules)):
        if tried >= max_requests:
            complete = False
            break
        before, after = _select(old, generated), _select(new, generated)
        if effect_of(before, after) is not Effect.SAME:
            plain = generated.with_ascii_letters()
            same = _select(old, plain) is before and _select(new, plain) is after
            moved.setdefault((_name(before), _name(after)), []).append(plain if same else generated)
    mentioned: set[str] = set()
    for first, *others in moved.values():
        before, after = _select(old, first), _select(new, first)
        mentioned |= {rule.name for rule in (before, after) if rule is not None}
        also = tuple(map(str, others))
        yield Change(effect_of(before, after), str(first), f"{_format(before)} -> {_format(after)}", also)
    if not complete:
        text = f"more than {max_requests} kinds of requests match the changed rules, and not all were tried"
        yield Change(Effect.UNKNOWN, "rules", text)
        return
    yield from _without_effect(removed, added, mentioned)


def effect_of(old: Rule | None, new: Rule | None) -> Effect:
    """Return the effect on a request if *new* decides it instead of *old*; None is no rule, which denies."""
    strictness = compare_strictness(old, new)
    if old is not None and new is not None and access_rank(old) and access_rank(new):
        strictness = combine([strictness, compare_accepted(old.accept, new.accept)])
        if strictness is Strictness.SAME and (old.allow is AccessMode.PUBLIC) != (new.allow is AccessMode.PUBLIC):
            return Effect.CHANGES  # the same callers are allowed; only the identity that upstreams receive differs
    return Effect(strictness.value)


@dataclass(frozen=True, slots=True)
class _Sample:
    """A generated request."""

    method: str
    host: str
    segments: tuple[str, ...]
    context: Mapping[str, str]

    def with_ascii_letters(self) -> _Sample:
        """Return the request with ASCII letters in its path where that is possible, because they are easier to read."""
        return replace(self, segments=tuple(_plain(segment) for segment in self.segments))

    def __str__(self) -> str:
        context = "".join(f", {name}={value}" for name, value in self.context.items())
        host = "any host" if self.host == _ANY_HOST else self.host.replace(f"{_ANY_HOST}.", "*.")
        return f"{self.method} {host} /{'/'.join(self.segments)}{context}"


def _differing(old: tuple[Rule, ...], new: tuple[Rule, ...]) -> tuple[list[Rule], list[Rule]]:
    """Return the rules that are not in both lists, unchanged and in the same order."""
    left, right = [repr(rule) for rule in old], [repr(rule) for rule in new]
    removed: list[Rule] = []
    added: list[Rule] = []
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind != "equal":
            removed += old[i1:i2]
            added += new[j1:j2]
    return removed, added


def _requests(
    removed: list[Rule], new: tuple[Rule, ...], added: list[Rule], old: tuple[Rule, ...]
) -> Iterator[_Sample]:
    depth = 1 + max(len(path.segments) for rule in (*old, *new) for path in rule.match.paths)
    literals = {part for rule in (*old, *new) for path in rule.match.paths for part in path.segments if part}
    yielded: set[tuple[object, ...]] = set()
    for rule, others in ((rule, others) for rules, others in ((removed, new), (added, old)) for rule in rules):
        for other in (_EVERYTHING, *others):
            for generated in _intersect(rule, other, depth, literals):
                key = (generated.method, generated.host, generated.segments, frozenset(generated.context.items()))
                if key not in yielded:
                    yielded.add(key)
                    yield generated


def _intersect(rule: Rule, other: Rule, depth: int, literals: set[str]) -> Iterator[_Sample]:
    """Generate the most general requests that both rules match."""
    context = {**rule.match.context, **other.match.context}
    if any(context[name] != value for name, value in rule.match.context.items()):
        return
    methods = rule.match.methods & other.match.methods if rule.match.methods and other.match.methods else None
    methods = (rule.match.methods | other.match.methods or frozenset({_ANY_METHOD})) if methods is None else methods
    hosts = {
        host
        for own, its in product(rule.match.hosts or (None,), other.match.hosts or (None,))
        if (host := _intersect_hosts(own, its)) is not None
    }
    paths = {
        segments
        for own, its in product(rule.match.paths, other.match.paths)
        for segments in _intersect_paths(rule, own, other, its, depth, literals)
    }
    for host, segments, method in product(sorted(hosts), sorted(paths), sorted(methods)):
        yield _Sample(method, host, segments, context)


def _intersect_hosts(one: HostPattern | None, other: HostPattern | None) -> str | None:
    """Return the most general host that both patterns match, or None if there is none."""
    if one is None or other is None:
        narrow = one or other
        if narrow is None:
            return _ANY_HOST
        return f"{_ANY_HOST}.{narrow.name}" if narrow.wildcard else narrow.name
    narrow, wide = sorted((one, other), key=lambda host: (not host.wildcard, len(host.name)), reverse=True)
    if narrow.wildcard:
        return f"{_ANY_HOST}.{narrow.name}" if f".{narrow.name}".endswith(f".{wide.name}") else None
    if wide.wildcard:
        return narrow.name if narrow.name.endswith(f".{wide.name}") else None
    return narrow.name if narrow.name == wide.name else None


def _intersect_paths(
    rule: Rule, own: PathTemplate, other: Rule, its: PathTemplate, depth: int, literals: set[str]
) -> Iterator[tuple[str, ...]]:
    """Generate the most general paths that match *own*, a path of *rule*, and *its*, a path of *other*."""
    for length in range(max(len(own.segments), len(its.segments)), depth + 1):
        if (length > len(own.segments) and not own.prefix) or (length > len(its.segments) and not its.prefix):
            return
        choices = []
        for index in range(length):
            mine = own.segments[index] if index < len(own.segments) else None
            theirs = its.segments[index] if index < len(its.segments) else None
            choices.append(_intersect_segments((mine, rule.fold), (theirs, other.fold), literals))
        yield from product(*choices)


_Fold = Callable[[str], str]
_FOLDS: Final[tuple[_Fold, ...]] = (str, fold_ascii, fold_unicode)  # each folds more letters than the last


def _intersect_segments(
    one: tuple[str | None, _Fold], other: tuple[str | None, _Fold], literals: set[str]
) -> list[str]:
    """Return the most readable segments that match a segment of each rule, given with its fold; empty if none does."""
    strict, loose = sorted((one, other), key=lambda pair: (pair[0] is None, _FOLDS.index(pair[1])))
    text, fold = strict
    if text is None:
        return [_ANY]
    if loose[0] is not None and loose[1](text) != loose[1](loose[0]):
        return []
    if fold is str:
        return [text]
    return _unlisted_spellings(text, literals) if fold is fold_unicode else _unlisted_cases(text, literals)


_BEYOND_ASCII: Final = {"i": ("\u0130", "\u0131"), "k": ("\u212a",), "s": ("\u017f",)}
_ASCII: Final = str.maketrans({letter: plain for plain, letters in _BEYOND_ASCII.items() for letter in letters})


def _plain(segment: str) -> str:
    """Return a segment with its letters of _BEYOND_ASCII replaced by ASCII, and then in upper case."""
    plain = segment.translate(_ASCII)
    return segment if plain == segment else plain.upper()


def _unlisted_spellings(text: str, literals: set[str]) -> list[str]:
    """Return a spelling of *text* with non-ASCII letters that no rule contains; if rules contain all, every one."""
    taken = set(map(fold_ascii, literals))
    letters = (
        dict.fromkeys((*_BEYOND_ASCII.get(letter.lower(), ()), *map(fold_ascii, (letter.upper(), letter.lower()))))
        for letter in text
    )
    tried = []
    for spelling in map("".join, product(*letters)):
        if spelling not in taken:
            return [spelling]
        tried += _unlisted_cases(spelling, literals)
    return tried


def _unlisted_cases(text: str, literals: set[str]) -> list[str]:
    """Return *text* in a letter case that no rule contains; if rules contain all of them, in each of them."""
    letters = ((letter.swapcase(), letter) if letter.isascii() and letter.isalpha() else (letter,) for letter in text)
    tried = []
    for spelling in map("".join, product(*letters)):
        tried.append(spelling)
        if spelling not in literals:
            return [spelling]
    return tried


def _select(policy: Policy, generated: _Sample) -> Rule | None:
    path = Path("/" + "/".join(generated.segments), generated.segments, frozenset())
    try:
        return policy.select(Target(generated.method, generated.host, path), generated.context)[0]
    except Rejected:
        return None


def _without_effect(removed: list[Rule], added: list[Rule], mentioned: set[str]) -> Iterator[Change]:
    before, after = ({rule.name: rule for rule in rules} for rules in (removed, added))
    for name in sorted((before.keys() | after.keys()) - mentioned):
        change = "was added" if name not in before else "was removed" if name not in after else "was changed or moved"
        yield Change(Effect.SAME, f"rule {name}", f"{change}, with no effect on any request")


def _format(rule: Rule | None) -> str:
    if rule is None:
        return "no rule, denied"
    accept = f", accepts {', '.join(sorted(rule.accept))}" if rule.accept else ""
    return f"rule {rule.name}, {describe_rule(rule)}{accept}"


def _name(rule: Rule | None) -> str:
    return "" if rule is None else rule.name


_EVERYTHING: Final = Rule(name="", match=Match(paths=(PathTemplate.parse("/**"),)))
