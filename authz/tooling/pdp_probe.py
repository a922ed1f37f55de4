"""Ask each policy decision point (PDP) once, by the code that serves, and say what that proves.

1. A made-up question, with the types and the action that the first rule that asks this PDP writes as they are: the URL,
   the connection, our credentials and the form of the answer.
2. The same with credentials that are wrong: whether the PDP looks at them at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.config.model import Config
from authz.config.pdp import Pdp
from authz.core.needs import Need
from authz.core.pdp import PDP, PdpDecision, PdpKind
from authz.core.template import Reference, Text
from authz.facts.source import Fact, SourceError
from authz.feeds.http.client_auth import ClientAuth
from authz.feeds.pdp import make_pdp
from authz.telemetry.redaction import printable
from authz.tooling.wrong_credentials import try_wrong_credentials

_MADE_UP: Final = "authz-check-config"


@dataclass(frozen=True, slots=True)
class ProbedPdp:
    """The result of asking one PDP: *ok* if it decides; *findings* are sentences."""

    pdp: str
    ok: bool
    findings: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Format it for people."""
        yield f"pdp {self.pdp}: {'answers' if self.ok else 'fails'}"
        yield from (f"  {'proved' if self.ok else 'failed'}        {printable(finding)}" for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"pdp": self.pdp, "ok": self.ok, "findings": list(self.findings)}


def probe_pdps(config: Config) -> list[ProbedPdp]:
    """Probe every PDP."""
    return [probe_pdp(name, pdp, made_up_question(name, config)) for name, pdp in config.pdps.items()]


def probe_pdp(name: str, pdp: Pdp, question: Mapping[str, object]) -> ProbedPdp:
    """Probe one PDP with a *question* that no one asks."""
    try:
        fact = _ask(pdp, question)
    except SourceError as error:
        if error.result == "bad_request":
            finding = f"{error}; it was asked {json.dumps(question)}: does it know this type and action?"
            return ProbedPdp(name, ok=False, findings=(finding,))
        return ProbedPdp(name, ok=False, findings=(f"{error.result}: {error}",))
    findings = [f"a made-up subject and resource are {fact.result}"]
    if fact.result == PdpDecision.ALLOWED.value:
        findings.append("is that so by a rule for everyone? Otherwise it decides nothing")
    findings.append(try_wrong_credentials(pdp, lambda auth: _ask(pdp, question, auth)))
    return ProbedPdp(name, ok=True, findings=tuple(findings))


def made_up_question(name: str, config: Config) -> dict[str, object]:
    """Return a question to the PDP *name* in the words of the first rule that asks it, with made-up values."""
    questions = (rule.require.pdp for rule in config.rules if rule.require is not None and rule.require.pdp is not None)
    first = next((question for question in questions if question.name == name), None)
    texts: tuple[str, ...] = ("user", "GET", "route")
    if first is not None:
        entities = first.subject.entity, first.action.action, first.resource.entity
        written = (entities[0].type, entities[1].name, entities[2].type)
        texts = tuple(_literal(text) or default for text, default in zip(written, texts, strict=True))
    question: dict[str, object] = {
        "subject": {"type": texts[0], "id": _MADE_UP},
        "action": {"name": texts[1]},
        "resource": {"type": texts[2], "id": _MADE_UP},
    }
    return {"input": question} if config.pdps[name].kind is PdpKind.OPA else question


def _literal(text: Text | Reference) -> str:
    """Return the text if it has no references; otherwise ""."""
    if isinstance(text, Reference) or any(isinstance(part, Reference) for part in text.parts):
        return ""
    return "".join(part for part in text.parts if isinstance(part, str))


def _ask(pdp: Pdp, question: Mapping[str, object], auth: ClientAuth | None = None) -> Fact:
    """Raises SourceError."""
    source = make_pdp(pdp, auth=auth)
    try:
        return source(Need(PDP, "", None, payload=json.dumps(question)))
    finally:
        source.close()
