"""One row of a decision table."""

# ruff: noqa: ANN401 - changes to a request are fields of several types
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from authz.core.needs import NO_FACTS, Facts
from authz.core.reasons import Reason
from authz.core.request import Request
from authz.core.snapshot import Snapshot
from tests.fixtures import DEFAULT_SNAPSHOT, T, ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request, the world it is evaluated in at *now* with *facts*, and what must come of it.

    *sees* are the identity headers that must be set where the request is allowed; None leaves them open.
    """

    name: str
    reason: Reason
    request: Request = field(repr=False)
    snapshot: Snapshot = field(repr=False)
    now: float
    sees: Mapping[str, str] | None
    facts: Facts = field(default_factory=dict, repr=False)


def case(
    name: str,
    reason: Reason,
    token: str | None = None,
    *,
    snapshot: Snapshot = DEFAULT_SNAPSHOT,
    now: float = T,
    sees: Mapping[str, str] | None = None,
    facts: Facts = NO_FACTS,
    **request: Any,
) -> Case:
    """Write a row: a bearer *token*, or none, and changes to the request for /items/1."""
    asked = ask(token, **request)
    return Case(name=name, reason=reason, request=asked, snapshot=snapshot, now=now, sees=sees, facts=facts)


def cases(name: str, reason: Reason, tokens: Mapping[str, str], **others: Any) -> Iterable[Case]:
    """Write one row for each of *tokens*, which differ in what their key in the mapping says."""
    return [case(f"{variant}-{name}", reason, token, **others) for variant, token in tokens.items()]
