"""One call on gRPC's core: what its caller sent, and the operations on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from authz.telemetry.check_record import Metadata

_NO_FLAGS: Final = 0


class CoreCall:
    """One call, from its acceptance to its end."""

    __slots__ = (
        "_core",
        "cancelled",
        "deadline",
        "message",
        "metadata",
        "method",
        "queued",
        "received",
        "sent",
        "sweeps",
    )

    def __init__(self, event: Any, received: float, now: float) -> None:  # noqa: ANN401 - cygrpc has no types
        """*received* and `deadline` are on the monotonic clock; *now* is Unix time, as the caller's deadline is."""
        self._core: Final = event.call
        self.method: Final[bytes] = event.call_details.method
        self.deadline: Final[float] = received + (event.call_details.deadline - now)  # no deadline: far in the future
        self.metadata: Metadata = event.invocation_metadata
        self.received: Final = received
        self.message = b""
        self.queued = False  # read, not handled, and its caller still waits
        self.cancelled = False  # the caller no longer waits
        self.sent = False  # the caller has the answer, or will never have it
        self.sweeps = 0  # that found it without its message

    def release_request(self) -> None:
        """Free the memory of the request: the caller may never read the answer."""
        self.message, self.metadata = b"", ()

    def read(self, on_message: Callable[[Any], None], on_end: Callable[[Any], None]) -> None:
        """Request the message, and notification of the end of the call."""
        self._start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), on_end)
        self._start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), on_message)

    def answer(self, answer: bytes, on_sent: Callable[[Any], None], *, unread: bool = False) -> None:
        """Send *answer* and status OK. If this raises, the call was cancelled."""
        receive_close = (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),) if unread else ()
        try:
            operations = (
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                cygrpc.SendMessageOperation(answer, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", _NO_FLAGS),
                *receive_close,
            )
            self._start(operations, on_sent)
        except BaseException:
            self.cancel()  # otherwise its caller waits until its deadline
            raise

    def reject(self, on_sent: Callable[[Any], None]) -> None:
        """End with UNIMPLEMENTED."""
        operations = (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.unimplemented, b"no such method", _NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
        )
        self._start(operations, on_sent)

    def cancel(self) -> None:
        """End with CANCELLED."""
        self._core.cancel()

    def _start(self, operations: tuple[Any, ...], on_done: Callable[[Any], None]) -> None:
        if error := self._core.start_server_batch(operations, on_done):
            raise RuntimeError(f"gRPC's core refused a batch of operations: grpc_call_error {error}")
