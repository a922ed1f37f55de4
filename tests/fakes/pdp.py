"""A policy decision point: the one of AuthZEN's certification scenario, and questions to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from authz.demo.loopback import Request, Response, json_response

EVALUATION: Final = "/access/v1/evaluation"

MEMBERS: Final = {
    "subject": {"type", "id", "properties"},
    "action": {"name", "properties"},
    "resource": {"type", "id", "properties"},
}


def evaluate(request: Request) -> Response:
    """Answer as the scenario demands (AuthZEN 1.0, certification, C-1.4), and refuse what is not exactly a question.

    Real servers are strict in different ways; this one is in all of them: unknown members, empty ids, other types.
    """
    headers = {name.lower(): value for name, value in request.headers}
    question = json.loads(request.body)
    if request.method != "POST" or headers.get("content-type") != "application/json":
        return json_response({"code": "invalid_request"}, status=400)
    if question.keys() - {"context"} != MEMBERS.keys() or not isinstance(question.get("context", {}), dict):
        return json_response({"code": "invalid_request"}, status=400)
    for name, members in MEMBERS.items():
        given = question[name]
        required = {key: value for key, value in given.items() if key != "properties"}
        complete = given.keys() | {"properties"} == members
        if not complete or not all(isinstance(text, str) and text for text in required.values()):
            return json_response({"code": "invalid_request"}, status=400)
    return json_response({"decision": _decide(question)})


def _decide(question: Mapping[str, Any]) -> bool:
    subject, action, resource = question["subject"], question["action"], question["resource"]
    archived = resource.get("properties", {}).get("status") == "archived"
    match action["name"]:
        case "read":
            return subject["id"] in {"alice", "bob"}
        case "write" if archived:
            return bool(subject.get("properties", {}).get("role") == "admin")
        case "write":
            return bool(subject["id"] == "alice")
        case "delete":
            return subject["id"] == "alice" and action.get("properties", {}).get("soft") is True
        case _:
            return False


def _with(entity: Mapping[str, Any], **properties: object) -> dict[str, Any]:
    given = {name: value for name, value in properties.items() if value is not None}
    return {**entity, "properties": given} if given else dict(entity)


def _question(
    subject: str,
    action: str,
    resource: str,
    *,
    role: str | None = None,
    soft: bool | None = None,
    status: str | None = None,
) -> dict[str, Any]:
    return {
        "subject": _with({"type": "user", "id": subject}, role=role),
        "action": _with({"name": action}, soft=soft),
        "resource": _with({"type": "record", "id": resource}, status=status),
    }


_CONTEXT: Final = {"context": {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}}

VECTORS: Final[Mapping[str, tuple[Mapping[str, Any], bool]]] = {
    "rule 1": (_question("alice", "read", "record-1"), True),
    "rule 1, with a context": (_question("alice", "read", "record-1") | _CONTEXT, True),
    "rule 2": (_question("alice", "write", "record-1"), True),
    "rule 3": (_question("bob", "read", "record-1"), True),
    "rule 4": (_question("bob", "write", "record-1"), False),
    "rule 5": (_question("alice", "write", "record-2", status="archived"), False),
    "rule 6": (_question("bob", "write", "record-2", role="admin", status="archived"), True),
    "rule 7": (_question("alice", "delete", "record-1", soft=True), True),
    "rule 8": (_question("alice", "delete", "record-1", soft=False), False),
}
"""The questions whose decisions the scenario fixes, and these."""
