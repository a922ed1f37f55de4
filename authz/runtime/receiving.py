"""Receive what issuers send: in this process, or at the supervisor of several workers, for one of them."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Final

from authz.admin import receivers
from authz.admin.receivers import MAX_MESSAGE_BYTES, WORKER_PATH, Message, Reply, make_receiver_routes
from authz.admin.server import AdminServer
from authz.config.address import parse_tcp_address
from authz.config.revocation import Receivers
from authz.feeds.logouts import LogoutReceiver, RefusedError
from authz.feeds.transmitters import RefusedEventError, Transmitters
from authz.runtime.revoking import PodRevocations
from authz.runtime.workers import Workers

log = logging.getLogger(__name__)

_EVENT_TYPE: Final = "application/secevent+jwt"
# Section 2.8 of OpenID Connect Back-Channel Logout: 400 if the logout failed, whatever the cause.
_LOGOUT_REFUSED: Final = Reply(HTTPStatus.BAD_REQUEST, {"error": "invalid_request"})


class ProcessReceiver:
    """Receives in this process."""

    def __init__(self, logouts: LogoutReceiver, transmitters: Transmitters) -> None:
        self._logouts: Final = logouts
        self._transmitters: Final = transmitters

    def receive(self, message: Message) -> Reply:
        """Answer *message*."""
        match message.path:
            case receivers.LOGOUT_PATH:
                return self._receive_logout(message)
            case receivers.EVENTS_PATH:
                return self._receive_event(message)
            case _:
                return Reply(HTTPStatus.NOT_FOUND)

    def _receive_logout(self, message: Message) -> Reply:
        try:
            self._logouts.receive(message.body)
        except RefusedError:
            return _LOGOUT_REFUSED
        return Reply(HTTPStatus.OK)

    def _receive_event(self, message: Message) -> Reply:
        """RFC 8935 sections 2.2 to 2.4."""
        if message.content_type.partition(";")[0].strip().lower() != _EVENT_TYPE:
            return Reply(HTTPStatus.BAD_REQUEST, {"err": "invalid_request", "description": f"not {_EVENT_TYPE}"})
        try:
            self._transmitters.receive(message.body, message.authorization)
        except RefusedEventError as refused:
            if refused.retry:
                return Reply(HTTPStatus.SERVICE_UNAVAILABLE)
            return Reply(HTTPStatus.BAD_REQUEST, {"err": refused.code, "description": refused.code})
        return Reply(HTTPStatus.ACCEPTED)


class PodReceiver:
    """Receives for all workers: one of them verifies and saves an event, then the others read it."""

    def __init__(self, workers: Workers) -> None:
        self._workers: Final = workers
        self._revocations: Final = PodRevocations(workers)

    def receive(self, message: Message) -> Reply:
        """Answer *message* when all workers that answer know of it."""
        answer = self._workers.post_to_one(WORKER_PATH, message.to_json())
        if answer is None:
            return Reply(HTTPStatus.SERVICE_UNAVAILABLE)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            self._revocations.catch_up()
        return Reply(HTTPStatus(answer.status), json.loads(answer.body) if answer.body else None)


def make_receiver(section: Receivers, receiver: ProcessReceiver | PodReceiver) -> AdminServer | None:
    """Return the server for what issuers send, bound but not started; None without an address. Raises OSError."""
    if section.listen is None:
        return None
    routes = make_receiver_routes(receiver.receive)
    return AdminServer(parse_tcp_address(section.listen), routes, max_body_bytes=MAX_MESSAGE_BYTES)


def start_receiver(server: AdminServer | None) -> None:
    """Start what `make_receiver` returned."""
    if server is not None:
        server.start()
        log.info("logout tokens are received on %s", server.address)
