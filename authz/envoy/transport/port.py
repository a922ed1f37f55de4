"""The port between a transport, which carries calls, and the service that answers them.

A transport reads calls from connections and sends the answers, without interpreting them. A service maps bytes to bytes
without access to connections. The tests in `tests/unit/envoy/transport` define the contract of all transports.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol, TypeAlias

from authz.telemetry.check_record import Metadata

Respond: TypeAlias = Callable[[bytes], None]


class Call(Protocol):
    """One call as the service sees it."""

    @property
    def method(self) -> bytes:
        """The full method, `/package.Service/Method`."""

    @property
    def message(self) -> bytes:
        """The request message; empty until it was read, and after the call was answered."""

    @property
    def metadata(self) -> Metadata:
        """The request headers."""

    @property
    def received(self) -> float:
        """When the call was accepted, in seconds on the monotonic clock."""

    @property
    def deadline(self) -> float:
        """When the caller stops waiting, in seconds on the monotonic clock; far in the future without a deadline."""


class Deferred(Protocol):
    """An answer that comes later."""

    def __call__(self, respond: Respond, /) -> None:
        """Start to create the answer and return at once; later call *respond* with it, once, on any thread.

        It is called once, on the deciding thread. If it raises, the fallback response is sent.
        """


class Service(Protocol):
    """Answers calls. Its methods never block, and a transport calls only one of them at a time."""

    @property
    def methods(self) -> AbstractSet[bytes]:
        """The methods that are served; a call to any other one ends with UNIMPLEMENTED."""

    @property
    def fallback_response(self) -> bytes:
        """The response if anything raises, or if an answer is not bytes."""

    def admit(self, call: Call, in_flight: int) -> bytes | None:
        """Answer *call* before its message is read, or return None to have it read and handled.

        *in_flight* is the number of admitted calls that are not yet answered. A transport that does not count a call
        until its message has come asks again then: many calls may have been admitted before the first was read.
        """

    def handle(self, call: Call) -> bytes | Deferred:
        """Answer *call*, whose message was read, now or later."""

    def reject(self, call: Call) -> bytes:
        """Answer *call*, which the transport cannot accept because of a limit."""

    def on_abandoned(self, call: Call) -> None:
        """Note that the caller of *call* left before it was handled."""
