"""What a PDP and a risk engine would answer, and what is known of the client, in a test."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from authz.core.needs import Need, Unanswered
from authz.core.pdp import PDP, PdpKind, PdpResponse, read_response
from authz.core.risk import ASSESSMENT_FIELDS, CLIENT, HISTORY_FIELDS, RISK, Assessment, ClientHistory
from authz.testing.instant_lane import InstantLane

PdpReply = Mapping[str, object] | Callable[[dict[str, Any]], Mapping[str, object] | None]
"""What the PDP answers, as JSON; or a function of the question as it is sent. None: it does not answer."""

_UNREACHABLE: Final = Unanswered("it does not answer in this test", absent=True)


def answer_by_pdp(reply: PdpReply | None, kinds: Mapping[str, PdpKind]) -> dict[str, InstantLane]:
    """Return the lane to the PDPs of these *kinds*, by name, each of which gives the same *reply*."""

    def decide(need: Need) -> PdpResponse | Unanswered:
        answer = reply(json.loads(need.payload)) if callable(reply) else reply
        if answer is None:
            return _UNREACHABLE
        try:
            return read_response(answer, kinds[need.source])
        except ValueError as error:
            return Unanswered(str(error))

    return {PDP: InstantLane(decide)}


def answer_about_risk(values: Mapping[str, object]) -> dict[str, InstantLane]:
    """Return the lanes to the risk engine, and to what is known of the client, by the names that conditions read.

    The engine does not answer if *values* have neither `level` nor `score`. Raises ValueError for other names.
    """
    if unknown := values.keys() - {*ASSESSMENT_FIELDS, *HISTORY_FIELDS}:
        names = ", ".join((*ASSESSMENT_FIELDS, *HISTORY_FIELDS))
        raise ValueError(f"nothing of the risk is called {', '.join(sorted(unknown))}, but {names}")
    assessment_values: Any = {name: values[name] for name in ASSESSMENT_FIELDS if name in values}
    history_values: Any = {name: values[name] for name in HISTORY_FIELDS if name in values}
    assessment = Assessment(**assessment_values) if assessment_values else _UNREACHABLE
    history = ClientHistory(**history_values)
    return {RISK: InstantLane(lambda _: assessment), CLIENT: InstantLane(lambda _: history)}
