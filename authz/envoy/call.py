"""One call, on gRPC's core: what its caller sent, and the four things that can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it is compiled

from authz.telemetry.judged import Metadata

_NO_FLAGS: Final = 0


class Call:
    """One call, from where it is met to its end."""

    __slots__ = ("_core", "counted", "deadline", "gone", "looks", "message", "metadata", "method", "received", "sent")

    def __init__(self, event: Any, received: float, now: float) -> None:  # noqa: ANN401 - cygrpc has no types
        """*received* and `deadline` are on the monotonic clock; *now* is Unix time, as the caller's deadline is."""
        self._core: Final = event.call
        self.method: Final[bytes] = event.call_details.method
        self.deadline: Final[float] = received + (event.call_details.deadline - now)  # far off where there is none
        self.metadata: Metadata = event.invocation_metadata
        self.received: Final = received
        self.message = b""
        self.counted = False  # among those held
        self.gone = False  # whether its caller waits no more
        self.sent = False  # whether its caller has the answer, or will never have it
        self.looks = 0

    def forget_question(self) -> None:
        """Keep nothing that its caller chose, who may never read the answer."""
        self.message, self.metadata = b"", ()

    def read(self, read: Callable[[Any], None], ended: Callable[[Any], None]) -> None:
        """Have *read* told of the message, and *ended* of the end."""
        self._start((cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), ended)
        self._start((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), read)

    def answer(self, answer: bytes, sent: Callable[[Any], None], *, unread: bool = False) -> None:
        """Send *answer* and end well. Whatever this raises, the call is ended."""
        to_the_end = (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),) if unread else ()
        try:
            operations = (
                cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
                cygrpc.SendMessageOperation(answer, _NO_FLAGS),
                cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.ok, b"", _NO_FLAGS),
                *to_the_end,
            )
            self._start(operations, sent)
        except BaseException:
            self.cancel()  # or its caller waits to the end of its time
            raise

    def reject(self, sent: Callable[[Any], None]) -> None:
        """End with UNIMPLEMENTED."""
        operations = (
            cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(None, cygrpc.StatusCode.unimplemented, b"no such method", _NO_FLAGS),
            cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
        )
        self._start(operations, sent)

    def cancel(self) -> None:
        """End it with CANCELLED."""
        self._core.cancel()

    def _start(self, operations: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        if error := self._core.start_server_batch(operations, done):
            raise RuntimeError(f"gRPC's core says no: grpc_call_error {error}")
