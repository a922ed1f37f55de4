"""The service behind the transport: admission of calls, and the limits of gRPC.

Rules of this file:
1. Above `max_concurrent`, a call is denied at once (overloaded), before its message is read. Health checks are answered
   before their message is read, too.
2. A call whose caller no longer waits is not evaluated.
3. Messages are raw bytes: no content can end a call with a gRPC error.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from authz.core.reasons import Reason
from authz.envoy.checker import FALLBACK_RESPONSE, Checker
from authz.envoy.health import HEALTH_METHOD, NOT_SERVING, SERVING
from authz.envoy.transport.port import Call, Deferred

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = f"/{SERVICE}/Check"
_CHECK: Final = METHOD.encode()
_HEALTH: Final = HEALTH_METHOD.encode()

# A larger message ends in an RPC error, so the limit must be above all that Envoy can be configured to accept: headers
# of 8192 KiB (max_request_headers_kb), path and host twice, and a certificate. The core denies what exceeds its own
# limits.
MAX_MESSAGE_BYTES: Final = 20 * 1024 * 1024
# Envoy forwards a client's tracestate, whose size must never end a call: the limit is the highest that Envoy can be
# configured to accept (max_request_headers_kb is at most 8192). Between grpcio's two limits calls fail at random, so
# both limits have the same value.
MAX_METADATA_BYTES: Final = 8 * 1024 * 1024 + 65_536
MAX_STREAMS: Final = 1024  # per connection
MAX_CONNECTIONS: Final = 1024
# Calls that arrive faster than they are accepted. By default grpcio cancels some of them above 1,000, and all above
# 3,000: RPC errors, which `failure_mode_allow` would turn into allows. The other limits bound these calls.
MAX_PENDING: Final = MAX_STREAMS * MAX_CONNECTIONS

# By default, gRPC's core counts an ended call as a stream of its connection until it has processed the end, and refuses
# streams that the caller may open (REFUSED_STREAM): under load, an RPC error.
_NO_OVERLOAD_PROTECTION: Final = 0

OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.http.overload_protection", _NO_OVERLOAD_PROTECTION),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    ("grpc.server_handshake_timeout_ms", 3_000),
    ("grpc.so_reuseport", 0),  # a second server on one port must fail, not share it
    ("grpc.http2.max_ping_strikes", 0),  # Envoy's keep-alive pings never close the channel
    ("grpc.keepalive_permit_without_calls", 1),
)


class AuthorizationService:
    """Implements the methods Check and health."""

    methods: Final = frozenset((_CHECK, _HEALTH))
    fallback_response: Final = FALLBACK_RESPONSE

    def __init__(self, checker: Checker, *, max_concurrent: int, on_abandoned: Callable[[], None]) -> None:
        """*max_concurrent* limits the calls in flight; *on_abandoned* is called for calls that were not evaluated."""
        self.serving = False
        self._checker: Final = checker
        self._max_concurrent: Final = max_concurrent
        self._on_abandoned: Final = on_abandoned

    def admit(self, call: Call, in_flight: int) -> bytes | None:
        """Answer health checks, and deny Checks above the limit."""
        if call.method == _HEALTH:
            return SERVING if self.serving else NOT_SERVING
        return self.reject(call) if in_flight >= self._max_concurrent else None

    def handle(self, call: Call) -> bytes | Deferred:
        """Answer a Check."""
        time_left = call.deadline - time.monotonic()
        if time_left <= 0:
            self.on_abandoned(call)
            return FALLBACK_RESPONSE
        return self._checker.check(call.message, received=call.received, time_left=time_left, metadata=call.metadata)

    def reject(self, call: Call) -> bytes:
        """Deny a Check because of overload."""
        return self._checker.reject(Reason.OVERLOADED, received=call.received, metadata=call.metadata)

    def on_abandoned(self, call: Call) -> None:  # noqa: ARG002 - calls are only counted
        """Count *call*."""
        self._on_abandoned()
