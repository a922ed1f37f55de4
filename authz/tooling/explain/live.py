"""Explain a decision with the current rules and keys of a running sidecar; nothing is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, Final

from authz.config.model import Config
from authz.core.authorize import authorize
from authz.core.keys import verify_by_keys
from authz.core.minting import MINTED
from authz.core.needs import KEY, PROOF, Need
from authz.core.risk import CLIENT
from authz.core.snapshot import Snapshot
from authz.core.token import parse_token
from authz.tooling.explain.explanation import Explanation, InputError, Question, build_request, explain
from authz.tooling.explain.needs import AnsweredNeed, answer_client, answer_minted, answer_proof
from authz.tooling.explain.notes import describe_envoys_part

MAX_PAIRS: Final = 100  # headers, or context_extensions
_DEFAULTS: Final = {
    "method": "GET",
    "host": "localhost",
    "path": "/",
    "scheme": "https",
    "address": "",
    "certificate": "",
}
_NOT_ASKED: Final = "not requested here; a real request waits for the answer, or uses a cached one"
_ANSWERS: Final = {KEY: "not in the current key set; a real request starts a search, limited by fetch.cooldown"}


def explain_live(question: Question, snapshot: Snapshot, config: Config) -> Explanation:
    """Decide *question* with the *snapshot* in use, which was built from *config*.

    It has no side effects: no key counts as used, no signature, token or proof is cached, nothing is fetched.
    """
    snapshot = replace(snapshot, parse_token=parse_token, verify_signature=verify_by_keys)
    request = build_request(question, snapshot)
    facts: dict[Need, object] = {}
    answered = []
    answered_needs: set[Need] = set()
    while needs := [
        need for need in authorize(request, snapshot, question.at, facts).trail.needs if need not in answered_needs
    ]:
        answered_needs.update(needs)
        for need in needs:
            answer = _ANSWERS.get(need.kind, _NOT_ASKED)
            if need.kind == PROOF:
                facts[need], answer = answer_proof()
            elif need.kind == MINTED:
                facts[need], answer = answer_minted(need, question.at)
            elif need.kind == CLIENT:
                facts[need], answer = answer_client()
            answered.append(AnsweredNeed(need, answer))
    explained = explain(request, snapshot, question.at, facts)
    notes = (*explained.notes, *describe_envoys_part(question.path, config))
    return replace(explained, notes=notes, needs=tuple(answered))


def read_question(data: Mapping[str, Any], *, now: float) -> Question:
    """Read a question from JSON *data*; `at` defaults to *now*. Raises InputError."""
    texts = {name: data.get(name, default) for name, default in _DEFAULTS.items()}
    token, proof = data.get("token"), data.get("proof")
    headers, context = data.get("headers", []), data.get("context", {})
    at = data.get("at", now)
    if not all(isinstance(value, str) for value in texts.values()):
        raise InputError(f"{', '.join(_DEFAULTS)} must be strings")
    if not all(text is None or isinstance(text, str) for text in (token, proof)):
        raise InputError("token and proof must be strings")
    if not isinstance(headers, list) or len(headers) > MAX_PAIRS or not all(map(_is_pair, headers)):
        raise InputError(f"headers must be a list of at most {MAX_PAIRS} pairs of strings")
    if not isinstance(context, dict) or len(context) > MAX_PAIRS or not all(map(_is_pair, context.items())):
        raise InputError(f"context must be an object of at most {MAX_PAIRS} strings")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < 1e12:
        raise InputError("at must be seconds since 1970")
    return Question(
        **{**texts, "address": _address(texts["address"])},
        at=at,
        headers=[(name.strip(), value) for name, value in headers],
        context=context,
        token=token,
        proof=proof,
    )


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(part, str) for part in pair)


def _address(text: str) -> str:
    try:
        return str(ip_address(text)) if text else ""
    except ValueError:
        raise InputError("address is not an IP address: write one without port") from None
