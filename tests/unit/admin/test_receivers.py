"""Proves authz.admin.receivers: what the receiver accepts reaches a worker whole, what would not is refused."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from authz.admin.receivers import (
    MAX_HEADER_CHARS,
    MAX_MESSAGE_BYTES,
    Message,
    Reply,
    make_receiver_routes,
    make_worker_routes,
)
from authz.admin.routes import AdminRequest
from authz.admin.server import MAX_BODY_BYTES
from authz.core.security_event import MAX_EVENT_BYTES

ROUTE = "POST /events"
WORST = "\u00ff" * MAX_HEADER_CHARS  # each is six characters of JSON


def post(received: list[Message], **request: object) -> HTTPStatus:
    """Post to the receiver, and return its answer."""

    def receive(message: Message) -> Reply:
        received.append(message)
        return Reply(HTTPStatus.ACCEPTED)

    asked = AdminRequest(("10.0.0.1", 1), "", "POST", **request)  # type: ignore[arg-type]  # members by name
    return make_receiver_routes(receive)[ROUTE](asked).status


def test_the_largest_message_fits_a_worker() -> None:
    """In base64, with headers that JSON makes six times as long, it is below what a worker's server reads."""
    received: list[Message] = []
    body = b"x" * MAX_MESSAGE_BYTES
    assert post(received, body=body, content_type=WORST, authorization=WORST) == HTTPStatus.ACCEPTED
    written = received[0].to_json()
    assert len(written) < MAX_BODY_BYTES
    again: list[Message] = []

    def receive(message: Message) -> Reply:
        again.append(message)
        return Reply(HTTPStatus.ACCEPTED)

    worker = make_worker_routes(receive)["POST /receive"]
    assert worker(AdminRequest("", "", "POST", body=written)).status == HTTPStatus.ACCEPTED
    assert again == received
    assert MAX_EVENT_BYTES < MAX_MESSAGE_BYTES  # a large event gets the error of RFC 8935


@pytest.mark.parametrize("name", ["content_type", "authorization"])
def test_a_header_that_would_not_fit_is_refused_at_the_door(name: str) -> None:
    """A stranger's long header costs no worker anything."""
    received: list[Message] = []
    assert post(received, body=b"x", **{name: WORST + "x"}) == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    assert received == []
